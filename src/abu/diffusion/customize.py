"""Custom Diffusion (arXiv 2212.04488): a pretrained model learns one concept from a few exemplars,
by its cross-attention keys and values and one new token alone."""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from abu.data.checks import check_counts, check_finite
from abu.data.progress import track
from abu.data.readers import Tensors
from abu.diffusion.components import Components
from abu.diffusion.losses import denoising_loss
from abu.diffusion.noise import normals, stream
from abu.diffusion.train import learning_rate, slots
from abu.diffusion.unet import select_weights


def class_vector(components: Components, word: str) -> Tensor:
    """Input embedding, float32 [D], of a class word. Raises ValueError for a word that is not one
    token of the tokenizer."""
    pieces = components.tokenizer.tokenize(word)
    if len(pieces) != 1 or pieces[0] == components.tokenizer.unk_token:
        raise ValueError(
            f"class word {word!r} is unknown to the tokenizer, which reads {pieces}; expected one "
            "token, e.g. 'cat'"
        )
    number = components.tokenizer.convert_tokens_to_ids(pieces[0])
    return (
        components.text_encoder.get_input_embeddings().weight[number].detach().clone().float().cpu()
    )


def add_token(components: Components, token: str, vector: Tensor) -> Components:
    """Components whose tokenizer and text encoder, both copies, know one token more; ``vector``:
    its input embedding [D].

    Raises ValueError for a token that is known already, or a vector of another width.
    """
    tokenizer, encoder = copy.deepcopy(components.tokenizer), copy.deepcopy(components.text_encoder)
    width = encoder.get_input_embeddings().weight.shape[1]
    if tuple(vector.shape) != (width,):
        raise ValueError(
            f"the embedding of {token!r} has the shape {tuple(vector.shape)}; expected {(width,)}"
        )
    if not tokenizer.add_tokens(token):
        raise ValueError(f"the tokenizer has a token {token!r} already")
    with torch.random.fork_rng(devices=[]):  # the new row is drawn first, and set after
        encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    set_vector(encoder, tokenizer.convert_tokens_to_ids(token), vector)
    frozen = encoder.requires_grad_(False).eval()
    return replace(components, tokenizer=tokenizer, text_encoder=frozen)


def add_tokens(components: Components, vectors: Tensors) -> Components:
    """As ``add_token``, for each of some tokens."""
    for token, vector in vectors.items():
        components = add_token(components, token, vector)
    return components


@torch.no_grad()
def set_vector(encoder, number: int, vector: Tensor) -> None:
    encoder.get_input_embeddings().weight[number] = vector.to(encoder.device)


@dataclass(frozen=True)
class Lessons:
    """Latents [n, c, h, w] of pictures, each with its prompt and the id that names its noise."""

    latents: Tensor
    prompts: list[str]
    ids: list[int]
    kind: str  # "customize": exemplars; "prior": pictures to be drawn as before
    weight: float = 1.0  # of their loss


@dataclass(frozen=True)
class CustomRecipe:
    """AdamW without weight decay, annealed: ``lr`` of keys and values, ``token_lr`` of the
    embedding."""

    steps: int
    batch_size: int  # pictures of each kind of lessons a step
    lr: float
    token_lr: float
    warmup: int = 10
    clip_norm: float = 1.0

    def __post_init__(self):
        check_counts(steps=self.steps, batch_size=self.batch_size)


def customize(
    unet,
    components: Components,
    token: str,
    lessons: list[Lessons],
    recipe: CustomRecipe,
    seed: int = 0,
    progress: str = "customize",
) -> list[float]:
    """Fine-tune the keys and values of cross-attention and the embedding of ``token``, in place;
    the loss of each step.

    ``components`` come from ``add_token``. Lessons of kind "prior" keep the model drawing other
    pictures as before (prior preservation). Timestep and noise of a picture are named (seed, kind,
    id, epoch), whatever the batch size. Raises FloatingPointError for a loss that is not finite.
    """
    steps = recipe.steps
    weights = select_weights(unet, "cross-attn-kv")
    params = [unet.get_parameter(name) for name in weights]
    embedding = components.text_encoder.get_input_embeddings().weight
    embedding.requires_grad_(True)
    number, device = components.tokenizer.convert_tokens_to_ids(token), params[0].device
    optimizer = torch.optim.AdamW(
        [{"params": params, "lr": recipe.lr}, {"params": [embedding], "lr": recipe.token_lr}],
        weight_decay=0.0,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate(step, steps, recipe.warmup)
    )
    losses = []
    for step in track(range(steps), progress):
        total = torch.zeros((), device=device)
        for lesson in lessons:
            rows = slots(len(lesson.ids), step, recipe.batch_size, seed)
            keys = [(seed, lesson.kind, lesson.ids[i], epoch) for i, epoch in rows]
            last = components.scheduler.config.num_train_timesteps
            t = torch.tensor([int(stream(*key).integers(last)) for key in keys])
            eps = normals(tuple(lesson.latents.shape[1:]), [(*key, "noise") for key in keys])
            # each prompt is encoded once a step, with a gradient
            unique = sorted({lesson.prompts[i] for i, _ in rows})
            states = components.text_encoder(components.tokens(unique).to(device)).last_hidden_state
            # indexing at once would add gradients in any order
            text = torch.stack([states[unique.index(lesson.prompts[i])] for i, _ in rows])
            x0 = lesson.latents[torch.tensor([i for i, _ in rows])].float()
            noisy = (x.to(device) for x in (x0, eps, t))
            loss = denoising_loss(unet, components.scheduler, *noisy, text).mean()
            total = total + lesson.weight * loss
        total.backward()
        others = torch.arange(len(embedding), device=device) != number
        embedding.grad[others] = 0  # other tokens stay as they are
        torch.nn.utils.clip_grad_norm_([*params, embedding], recipe.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(total.item())
        check_finite(f"customization loss of step {step}", torch.tensor(losses[-1]))
    embedding.requires_grad_(False)
    unet.requires_grad_(False)
    return losses
