"""Custom Diffusion (arXiv 2212.04488): a pretrained model learns one concept from a few exemplars,
by its cross-attention keys and values and one new token alone; and the files in which diffusers
keeps such a model."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from abu.data.checks import check_counts, check_finite
from abu.data.files import write_atomically
from abu.data.progress import track
from abu.data.readers import Tensors, read_tensors
from abu.diffusion.components import Components
from abu.diffusion.losses import denoising_loss
from abu.diffusion.noise import normals, stream
from abu.diffusion.train import learning_rate, slots
from abu.diffusion.unet import select_weights

WEIGHTS = (
    "pytorch_custom_diffusion_weights"  # diffusers' name; .safetensors, or .bin of earlier releases
)
NAMES = {  # diffusers' processors keep keys and values of their own; here they replace the layer's
    "processor.to_k_custom_diffusion.": "to_k.",
    "processor.to_v_custom_diffusion.": "to_v.",
    "processor.to_q_custom_diffusion.": "to_q.",
    "processor.to_out_custom_diffusion.": "to_out.",
}


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
    return Components(
        tokenizer, encoder.requires_grad_(False).eval(), components.vae, components.scheduler
    )


@torch.no_grad()
def set_vector(encoder, number: int, vector: Tensor) -> None:
    encoder.get_input_embeddings().weight[number] = vector.to(encoder.device)


def merge(unet, weights: Tensors) -> None:
    """Put customized weights in the place of the U-Net's own. Raises ValueError for a weight that
    it lacks or of another shape."""
    own = dict(unet.named_parameters())
    for name, value in weights.items():
        found = tuple(own[name].shape) if name in own else "no such weight"
        if found != tuple(value.shape):
            raise ValueError(
                f"customized weight {name} has the shape {tuple(value.shape)}; the model has "
                f"{found}"
            )
        check_finite(f"customized weight {name}", value)
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)


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
            used = sorted({lesson.prompts[i] for i, _ in rows})
            states = components.text_encoder(components.tokens(used).to(device)).last_hidden_state
            # indexing at once would add gradients in any order
            text = torch.stack([states[used.index(lesson.prompts[i])] for i, _ in rows])
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


def save_customized(folder: Path, unet, components: Components, token: str) -> None:
    """Keys and values as diffusers saves Custom Diffusion, and the token's embedding as it saves
    textual inversions."""
    weights = {}
    for name in select_weights(unet, "cross-attn-kv"):
        layer, part = name.rsplit(".to_", 1)  # part: k.weight, v.weight
        weights[f"{layer}.processor.to_{part.replace('.', '_custom_diffusion.')}"] = (
            unet.get_parameter(name).detach().cpu().contiguous()
        )
    number = components.tokenizer.convert_tokens_to_ids(token)
    vector = components.text_encoder.get_input_embeddings().weight[number].detach().cpu().clone()
    write_atomically(folder / f"{WEIGHTS}.safetensors", lambda file: save_file(weights, file))
    write_atomically(folder / f"{token}.safetensors", lambda file: save_file({token: vector}, file))


def load_customized(folder: Path) -> tuple[Tensors, str, Tensor]:
    """Customized weights by the U-Net's own names, the new token, its embedding [D], from a folder
    as diffusers saves it (``pytorch_custom_diffusion_weights`` and ``<new1>``, each
    ``.safetensors`` or ``.bin``).

    Raises FileNotFoundError for a part that is missing, ValueError for files of another form or
    more than one new token.
    """
    found = [
        path
        for suffix in (".safetensors", ".bin")
        if (path := folder / f"{WEIGHTS}{suffix}").is_file()
    ]
    tokens = [
        path for suffix in (".safetensors", ".bin") for path in sorted(folder.glob(f"<*>{suffix}"))
    ]
    if not found or not tokens:
        raise FileNotFoundError(
            f"{folder} is no customized model: expected {WEIGHTS}.safetensors or .bin, and "
            "<new1>.safetensors or .bin"
        )
    if len({path.stem for path in tokens}) > 1:
        raise ValueError(
            f"{folder} has several new tokens: {[path.name for path in tokens]}; expected one"
        )
    weights: Tensors = {}
    for name, value in read_tensors(found[0]).items():
        if not isinstance(
            value, Tensor
        ):  # processors without weights of their own leave an empty entry
            continue
        part = next((old for old in NAMES if old in name), None)
        if part is None:
            raise ValueError(
                f"{found[0]} has an entry {name}; expected those of Custom Diffusion "
                f"({', '.join(NAMES)})"
            )
        weights[name.replace(part, NAMES[part])] = value.float()
    vectors = read_tensors(tokens[0])
    if list(vectors) != [tokens[0].stem] or not weights:
        raise ValueError(
            f"{folder}: found {len(weights)} weights and the tokens {list(vectors)}; expected "
            f"some, and {tokens[0].stem}"
        )
    return weights, tokens[0].stem, vectors[tokens[0].stem].float().flatten()
