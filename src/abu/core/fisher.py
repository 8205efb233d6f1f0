"""Fisher information of the attributed weights from exact per-example gradients, and the query's gradient."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from abu.core.curvature import squares, summed
from abu.core.taps import Taps
from abu.data.checks import check_counts, check_finite
from abu.data.progress import track
from abu.data.readers import Tensors, named, read_tensors
from abu.diffusion.attention import share_text
from abu.diffusion.losses import check_timesteps, denoising_loss
from abu.diffusion.noise import normals, stream
from abu.diffusion.prefetch import prefetch

Example = Callable[[int, int, int], tuple[Tensor, Tensor]]


def per_example(
    unet,
    scheduler,
    weights: Sequence[str],
    example: Example,
    ids: Sequence[int],
    draws: int,
    seed: int = 0,
    batch_size: int = 64,
    progress: str = "",
) -> Iterator[Taps]:
    """Taps of batch after batch, with the gradients of each example's own loss.

    ``example(i, flip, caption)`` gives x0 [c, h, w] and text [L, D] of image number i; flip and caption are large
    random integers, to be reduced by their remainders. Each image is met ``draws`` times; timestep (uniform), noise,
    caption and flip of a draw are named (seed, "fisher", image id, draw).
    """
    rows = [(i, k) for i in range(len(ids)) for k in range(draws)]
    parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    batches = [partial(draw_batch, scheduler, example, ids, part, seed) for part in parts]
    device = next(unet.parameters()).device
    for _, batch in track(prefetch(batches, device), progress, len(batches)):
        with Taps(unet, weights) as taps:
            taps.backward(denoising_loss(unet, scheduler, *batch).sum())
        yield taps


def fisher_diagonal(
    unet,
    scheduler,
    weights: Sequence[str],
    example: Example,
    ids: Sequence[int],
    draws: int,
    **options,
) -> Tensors:
    """Mean of squared per-example gradients (the empirical Fisher's diagonal), float64, one tensor a weight.

    Arguments as in ``per_example``. Squares are summed over a batch in float32 and over batches in float64. Raises
    FloatingPointError for a value that is not finite.
    """
    total = summed(
        per_example(unet, scheduler, weights, example, ids, draws, **options),
        partial(squares, weights=weights),
    )
    return {name: value / (len(ids) * draws) for name, value in total.items()}


def draw_batch(scheduler, example: Example, ids, rows, seed: int) -> tuple[None, list[Tensor]]:
    """Named draws of ``rows`` (image number, draw): x0, eps, t, text."""
    last = scheduler.config.num_train_timesteps
    streams = [stream(seed, "fisher", ids[i], k) for i, k in rows]
    t = torch.tensor([int(s.integers(last)) for s in streams])
    pairs = [
        example(i, int(s.integers(2**31)), int(s.integers(2**31)))
        for (i, _), s in zip(rows, streams)
    ]
    x0, text = (torch.stack(column).float() for column in zip(*pairs))
    eps = normals(tuple(x0.shape[1:]), [(seed, "fisher", ids[i], k, "noise") for i, k in rows])
    return None, [x0, eps, t, text]


def query_gradient(
    unet,
    scheduler,
    weights: Sequence[str],
    x0: Tensor,
    text: Tensor,
    key: tuple,
    timesteps: Sequence[int],
    draws: int,
    batch_size: int = 64,
    region: Tensor | None = None,
) -> tuple[float, Tensors]:
    """Mean loss of a query over ``timesteps`` x ``draws`` named noises, and its gradient in the named weights.

    ``x0``: [c, h, w]; ``text``: [L, D]; the noise is named (*key, "query", timestep, draw).
    All rows share the query's text, whose keys and values are projected once a batch. With a ``region`` [h, w] of weights the
    loss is that of the region alone.
    """
    check_timesteps(scheduler, timesteps)
    check_counts(gradient_draws=draws)
    params = [share_text(unet).get_parameter(name) for name in weights]
    device = params[0].device
    region = None if region is None else region.to(device)
    total, loss = [torch.zeros_like(p) for p in params], torch.zeros((), device=device)
    rows = [(int(t), k) for t in timesteps for k in range(draws)]
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        eps = normals(tuple(x0.shape), [(*key, "query", t, k) for t, k in part]).to(device)
        t = torch.tensor([t for t, _ in part], device=device)
        x = x0.float().to(device).expand(len(part), *x0.shape)
        value = denoising_loss(
            unet, scheduler, x, eps, t, text[None].float().to(device), region
        ).sum() / len(rows)
        for sum_, g in zip(total, torch.autograd.grad(value, params, allow_unused=True)):
            sum_ += 0 if g is None else g
        loss += value.detach()
    gradient = dict(zip(weights, total))
    for name, value in gradient.items():
        check_finite(f"query gradient of {name}", value)
    return loss.item(), gradient


def load_fisher(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Diagonal Fisher information of the attributed weights, float64: means of squared gradients, by name (other weights' may stand
    beside them) or in the order of ``shapes``. Raises ValueError for a negative value, and as ``named``."""
    found = {
        name: value.double() for name, value in named(path, read_tensors(path), shapes).items()
    }
    if negative := [name for name, value in found.items() if value.min() < 0]:
        raise ValueError(
            f"{path}: {negative[0]} has negative values; expected means of squared gradients"
        )
    return found
