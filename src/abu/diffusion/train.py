"""Train a text-conditional denoiser with common random numbers.

Batches are drawn from the *whole* data set; images that are left out drop out of their slots. So
the noise, timestep, caption, flip and batch slot that a kept image meets are the same in every
leave-K-out retraining.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from diffusers.training_utils import EMAModel

from abu.data.checks import check_counts, check_finite, check_shares
from abu.data.files import write_atomically
from abu.data.images import captions_of
from abu.data.prepared import Prepared
from abu.data.progress import track
from abu.data.readers import read_tensors
from abu.diffusion.losses import denoising_loss
from abu.diffusion.muon import Muon, matrices_and_rest
from abu.diffusion.noise import normals, permutation, stream


def hold_out(ids: list[int], count: int, seed: int) -> tuple[list[int], list[int]]:
    """Ids to train on and ``count`` ids held out, both in the given order; the choice is named
    (seed, "held out")."""
    if not 0 <= count < len(ids):
        raise ValueError(f"cannot hold out {count} of {len(ids)} images")
    held_out = {ids[i] for i in permutation(len(ids), seed, "held out")[:count]}
    return [id for id in ids if id not in held_out], [id for id in ids if id in held_out]


def initial_unet(config: dict, seed: int) -> UNet2DConditionModel:
    """U-Net of a diffusers config with named initial weights; the global random state is left as it
    was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(seed, "unet").integers(2**31)))
        return UNet2DConditionModel(**config)


def slots(n: int, step: int, batch_size: int, seed: int) -> list[tuple[int, int]]:
    """Image numbers in the slots of one batch, with their epochs: named permutations of all ``n``
    images, end to end."""
    places = range(step * batch_size, (step + 1) * batch_size)
    order = {
        epoch: permutation(n, seed, "epoch", epoch) for epoch in {place // n for place in places}
    }
    return [(int(order[place // n][place % n]), place // n) for place in places]


def batch(data: Prepared, scheduler, rows: list[tuple[int, int]], seed: int, recipe: "Recipe"):
    """Tensors x0, eps, t, text of ``rows`` (image number, epoch), each drawn under (seed, "train",
    image id, epoch)."""
    choices, keys = [], [(seed, "train", data.ids[i], epoch) for i, epoch in rows]
    for draw, (i, _) in zip((stream(*key) for key in keys), rows):
        t = int(draw.integers(scheduler.config.num_train_timesteps))
        caption, flip = int(draw.integers(captions_of(data, i))), int(draw.integers(2))
        choices.append((t, caption, flip, draw.random() < recipe.caption_dropout))
    t, captions, flip, dropped = (torch.tensor(column) for column in zip(*choices))
    at = torch.tensor([i for i, _ in rows])
    x0 = data.latents[at, flip if recipe.flips else 0]
    texts = data.texts[at, captions]
    texts[dropped] = data.empty
    return x0, normals(tuple(x0.shape[1:]), [(*key, "noise") for key in keys]), t, texts


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """Factor of the learning rate: linear warm-up, then half a cosine to zero."""
    return min((step + 1) / max(warmup, 1), 0.5 * (1 + math.cos(math.pi * step / steps)))


@dataclass(frozen=True)
class Recipe:
    """How a U-Net is trained: Muon and AdamW, warm-up, annealed to zero; gradients clipped; weights
    averaged.

    ``config``: of diffusers' ``UNet2DConditionModel``. ``muon_lr``: of matrices
    (``abu.diffusion.muon``); None: AdamW moves them too. ``caption_dropout``: share of examples
    without caption, for guidance. ``flips``: mirror images too. ``precision``: accelerate's mixed
    precision. Raises ValueError for a count below 1 or a share outside 0..1.
    """

    config: dict
    steps: int
    batch_size: int
    lr: float
    warmup: int
    muon_lr: float | None = None
    caption_dropout: float = 0.1
    flips: bool = True
    ema_decay: float = 0.995
    clip_norm: float = 1.0
    precision: str = "no"

    def __post_init__(self):
        check_counts(steps=self.steps, batch_size=self.batch_size)
        check_shares(caption_dropout=self.caption_dropout, ema_decay=self.ema_decay)


def optimizers(unet: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW, of all weights or of those that Muon leaves."""
    if recipe.muon_lr is None:
        return [torch.optim.AdamW(unet.parameters(), recipe.lr, weight_decay=0.01)]
    matrices, rest = matrices_and_rest(unet)
    return [torch.optim.AdamW(rest, recipe.lr, weight_decay=0.01), Muon(matrices, recipe.muon_lr)]


def train(
    data: Prepared,
    scheduler,
    recipe: Recipe,
    keep: list[int],
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    checkpoint_every: int = 200,
    observe: Callable[[torch.nn.Module], dict[str, float]] | None = None,
    progress: str = "train",
    stop: int | None = None,
) -> tuple[UNet2DConditionModel, list[float], list[dict]]:
    """Train on the images ``keep`` (ids); return the averaged (EMA) U-Net, the loss of each step,
    and what was observed.

    ``checkpoint``: a file to go on from, to the bit; it must belong to the same arguments (name it
    by their fingerprint). ``observe(unet)`` is asked every ``checkpoint_every`` steps. ``stop``:
    only the first so many steps of the recipe. Raises
    ValueError for an empty ``keep``, a count below 1 or a torn checkpoint, KeyError for an unknown
    id, FloatingPointError for a loss that is not finite. Under ``accelerate launch`` a batch is
    shared by the processes.
    """
    check_counts(checkpoint_every=checkpoint_every)
    kept_rows = set(data.rows(keep).tolist())
    if not kept_rows:
        raise ValueError("no image to train on")
    accelerator = Accelerator(mixed_precision=recipe.precision, cpu=str(device) == "cpu")
    steps = recipe.steps
    unet = initial_unet(recipe.config, seed)
    ema = EMAModel(unet.parameters(), decay=recipe.ema_decay)
    plain = optimizers(unet, recipe)
    factor = partial(learning_rate, steps=steps, warmup=recipe.warmup)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in plain]
    model, *wrapped = accelerator.prepare(unet, *plain)
    ema.to(accelerator.device)
    stateful: dict = {"unet": unet, "ema": ema}
    for number, (optimizer, schedule) in enumerate(zip(wrapped, schedules)):
        stateful |= {f"optimizer {number}": optimizer, f"schedule {number}": schedule}
    losses: list[float] = []
    history: list[dict] = []
    if checkpoint and checkpoint.exists():
        state = read_tensors(checkpoint, accelerator.device)
        losses, history = state.pop("losses"), state.pop("history")
        for name, value in state.items():
            stateful[name].load_state_dict(value)
    for step in track(range(len(losses), min(steps, stop or steps)), progress):
        rows = [
            row
            for row in slots(len(data.ids), step, recipe.batch_size, seed)
            if row[0] in kept_rows
        ]
        if rows:
            mine = rows[accelerator.process_index :: accelerator.num_processes]
            # processes' gradients are averaged
            share = accelerator.num_processes / len(rows) if mine else 0.0
            examples = batch(data, scheduler, mine or rows[:1], seed, recipe)
            tensors = (x.to(accelerator.device) for x in examples)
            loss = denoising_loss(model, scheduler, *tensors).sum() * share
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(unet.parameters(), recipe.clip_norm)  # fp16: unscaled first
            for optimizer in wrapped:
                optimizer.step()
            unet.zero_grad()
            ema.step(unet.parameters())
            losses.append(accelerator.reduce(loss.detach(), "mean").item())
            check_finite(f"training loss of step {step}", torch.tensor(losses[-1]))
        else:
            losses.append(math.nan)
        for schedule in schedules:
            schedule.step()
        if (step + 1) % checkpoint_every == 0 or step + 1 == steps:
            if observe:
                ema.store(unet.parameters())
                ema.copy_to(unet.parameters())
                history.append({"step": step + 1, **observe(unet)})
                ema.restore(unet.parameters())
            if checkpoint and accelerator.is_main_process:
                state = {name: part.state_dict() for name, part in stateful.items()}
                state |= {"losses": losses, "history": history}
                write_atomically(checkpoint, lambda file, state=state: torch.save(state, file))
    ema.copy_to(unet.parameters())
    return unet.requires_grad_(False).eval(), losses, history
