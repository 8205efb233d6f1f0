"""Per-example denoising loss under named noise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from abu.data.checks import check_finite
from abu.data.images import Images
from abu.diffusion.attention import share_text
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid, batches, filled
from abu.diffusion.prefetch import prefetch


def target(scheduler, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """What the denoiser predicts: noise or velocity, by the scheduler's ``prediction_type``."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return eps
    if kind == "v_prediction":
        return scheduler.get_velocity(x0, eps, t)
    raise ValueError(f"prediction_type is {kind!r}; expected 'epsilon' or 'v_prediction'")


def denoising_loss(unet, scheduler, x0, eps, t, text, region: Tensor | None = None) -> Tensor:
    """``mean_dims (eps_theta(x_t, t, c) - eps)^2`` of each row (or the same in v): float32 [B].

    ``x0``, ``eps``: [B, C, H, W]; ``t``: int64 [B]; ``text``: [B, L, D], or, for a U-Net that
    shares text, one for every so many rows. With a ``region`` [H, W] of weights the mean over
    places is weighted by them (``abu.core.regions``).
    """
    prediction = unet(scheduler.add_noise(x0, eps, t), t, encoder_hidden_states=text).sample
    errors = (prediction.float() - target(scheduler, x0, eps, t).float()).square()
    return (
        errors.mean((1, 2, 3))
        if region is None
        else (errors.mean(1) * (region / region.sum())).sum((1, 2))
    )


def check_timesteps(scheduler, timesteps: Sequence[int]) -> None:
    """Raise ValueError for an empty list or a timestep outside the scheduler's."""
    last = scheduler.config.num_train_timesteps - 1
    if not len(timesteps) or min(timesteps) < 0 or max(timesteps) > last:
        raise ValueError(f"timesteps are {list(timesteps)}; expected some within 0..{last}")


@torch.no_grad()
def loss_table(denoiser: Denoiser, images: Images, grid: Grid) -> Tensor:
    """Losses of images over a grid under named noise: float32 [N, F, C, T] (image, flip, caption,
    timestep).

    With ``grid.spread``, timestep number j meets caption j mod C alone, and the answer is [N, F, 1,
    T]. In place of captions that an image lacks stands the mean over its own. A caption's keys and
    values are projected once a batch. Raises ValueError for timesteps outside the scheduler's,
    FloatingPointError for a loss that is not finite.
    """
    check_timesteps(denoiser.scheduler, grid.timesteps)
    unet = share_text(denoiser.model())
    n, flips, captions, times = grid.shape(images)
    losses = torch.empty(n, captions, times, flips)
    places, values = [], []
    walk = prefetch(batches(images, grid, denoiser.batch_size), next(unet.parameters()).device)
    for (i, c, t, f), batch in walk:
        places.append(((i * captions + grid.place(c)) * times + t) * flips + f)
        values.append(denoising_loss(unet, denoiser.scheduler, *batch))
    losses.view(-1)[torch.cat(places)] = torch.cat(values).cpu()
    table = filled(losses.permute(0, 3, 1, 2).contiguous(), images, grid)
    check_finite("losses", table)
    return table
