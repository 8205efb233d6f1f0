"""Fisher information of the attributed weights from exact per-example gradients, and the query's
gradient."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from abu.core.curvature import squares, summed
from abu.core.taps import Taps
from abu.data.checks import check_counts, check_finite
from abu.data.images import Images, captions_of
from abu.data.readers import Tensors
from abu.diffusion.attention import share_text
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.losses import check_timesteps, denoising_loss
from abu.diffusion.noise import normals, stream
from abu.diffusion.prefetch import prefetch


def per_example(denoiser: Denoiser, images: Images, draws: int, seed: int = 0) -> Iterator[Taps]:
    """Taps of batch after batch, with the gradients of each example's own loss.

    Each image is met ``draws`` times; timestep (uniform), noise, caption and flip of a draw are
    named (seed, "fisher", image id, draw).
    """
    rows = [(i, k) for i in range(len(images)) for k in range(draws)]
    size, unet = denoiser.batch_size, denoiser.model()
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    makers = [partial(draw_batch, denoiser.scheduler, images, chunk, seed) for chunk in chunks]
    for _, batch in prefetch(makers, next(unet.parameters()).device):
        with Taps(unet, denoiser.weights) as taps:
            taps.backward(denoising_loss(unet, denoiser.scheduler, *batch).sum())
        yield taps


def fisher_diagonal(denoiser: Denoiser, images: Images, draws: int, seed: int = 0) -> Tensors:
    """Mean of squared per-example gradients (the empirical Fisher's diagonal), float64, one tensor
    a weight.

    Arguments as in ``per_example``. Squares are summed over a batch in float32 and over batches in
    float64. Raises FloatingPointError for a value that is not finite.
    """
    moment = partial(squares, weights=denoiser.weights)
    total = summed(per_example(denoiser, images, draws, seed), moment)
    return {name: value / (len(images) * draws) for name, value in total.items()}


def draw_batch(scheduler, images: Images, rows: Sequence[tuple[int, int]], seed: int):
    """Named draws of ``rows`` (image number, draw): x0, eps, t, text."""
    streams = [stream(seed, "fisher", images.ids[i], k) for i, k in rows]
    t = torch.tensor([int(s.integers(scheduler.config.num_train_timesteps)) for s in streams])
    flips = images.latents.shape[1]
    # drawn in a large range and reduced, so that a draw does not depend on how many there are
    choices = [
        (int(s.integers(2**31)) % flips, int(s.integers(2**31)) % captions_of(images, i))
        for s, (i, _) in zip(streams, rows)
    ]
    x0 = torch.stack([images.latents[i, f] for (i, _), (f, _) in zip(rows, choices)]).float()
    text = torch.stack([images.texts[i, c] for (i, _), (_, c) in zip(rows, choices)]).float()
    keys = [(seed, "fisher", images.ids[i], k, "noise") for i, k in rows]
    return None, [x0, normals(tuple(x0.shape[1:]), keys), t, text]


def query_gradient(denoiser: Denoiser, *asked, **more) -> tuple[float, Tensors]:
    """Mean loss of a query over ``timesteps`` x ``draws`` named noises, and its gradient in the
    attributed weights. Arguments as in ``query_parts``.

    Raises FloatingPointError for a gradient that is not finite.
    """
    params = [denoiser.unet.get_parameter(name) for name in denoiser.weights]
    total, loss = [torch.zeros_like(p) for p in params], 0.0
    for value in query_parts(denoiser, *asked, **more):
        for sum_, g in zip(total, torch.autograd.grad(value, params, allow_unused=True)):
            sum_ += 0 if g is None else g
        loss += value.item()
    for name, gradient in zip(denoiser.weights, total):
        check_finite(f"query gradient of {name}", gradient)
    return loss, dict(zip(denoiser.weights, total))


def query_loss(denoiser: Denoiser, *asked, **more) -> float:
    """The loss of ``query_gradient`` alone."""
    with torch.no_grad():
        return sum(value.item() for value in query_parts(denoiser, *asked, **more))


def query_parts(
    denoiser: Denoiser,
    x0: Tensor,
    text: Tensor,
    key: tuple,
    timesteps: Sequence[int],
    draws: int,
    region: Tensor | None = None,
) -> Iterator[Tensor]:
    """What batch after batch adds to a query's mean loss.

    ``x0``: [c, h, w]; ``text``: [L, D]; the noise is named (*key, "query", timestep, draw). All
    rows share the query's text, whose keys and values are projected once a batch. With a ``region``
    [h, w] of weights the loss is that of the region alone.
    """
    check_timesteps(denoiser.scheduler, timesteps)
    check_counts(gradient_draws=draws)
    unet, size = share_text(denoiser.model()), denoiser.batch_size
    device = next(unet.parameters()).device
    region, text = None if region is None else region.to(device), text[None].float().to(device)
    rows = [(int(t), k) for t in timesteps for k in range(draws)]
    for chunk in (rows[start : start + size] for start in range(0, len(rows), size)):
        eps = normals(tuple(x0.shape), [(*key, "query", t, k) for t, k in chunk]).to(device)
        t = torch.tensor([t for t, _ in chunk], device=device)
        x = x0.float().to(device).expand(len(chunk), *x0.shape)
        losses = denoising_loss(unet, denoiser.scheduler, x, eps, t, text, region)
        yield losses.sum() / len(rows)
