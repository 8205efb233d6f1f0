"""Standard errors of scores that are means over captions and timesteps, each of own noise."""

import torch
from torch import Tensor

from abu.core.unlearn import over_flips


def spread(rises: Tensor, counts: Tensor | None = None) -> Tensor:
    """Standard error [...] of the mean over captions and timesteps of rises [..., C, T] from the
    differences between successive timesteps; ``counts`` [...]: captions that each has, where they
    differ: of those only, since the others hold their mean (``abu.diffusion.grid.filled``).

    What changes slowly with the timestep is no chance and cancels, or nearly: it is never too
    small for that reason. NaN where there is one timestep.
    """
    captions, times = rises.shape[-2:]
    everyone = torch.tensor(captions) if counts is None else counts.clamp(max=captions)
    captions_of_each = everyone.expand(rises.shape[:-2])
    differences = rises.diff(dim=-1).square().mean(-1)
    has = torch.arange(captions) < captions_of_each[..., None]
    each = differences.where(has, 0).sum(-1) / captions_of_each
    return (each / 2 / (captions_of_each * times)).sqrt()


def reduced(
    rises: Tensor, flips: str = "max", counts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Score [..., N] and standard error of it, [..., N], by ``spread``, from rises
    [..., N, F, C, T] of images and mirror images; ``counts`` [N]: captions of each, or None."""
    of_flips = None if counts is None else counts[:, None]
    means, errors = rises.mean((-2, -1)), spread(rises, of_flips)
    best = means.argmax(-1, keepdim=True)
    error = errors.gather(-1, best)[..., 0] if flips == "max" else errors.mean(-1)
    return over_flips(means, flips), error
