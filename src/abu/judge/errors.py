"""Standard errors of scores that are means over captions and timesteps, each of own noise."""

from torch import Tensor

from abu.core.unlearn import over_flips


def spread(rises: Tensor) -> Tensor:
    """Standard error [...] of the mean over captions and timesteps of rises [..., C, T] from the
    differences between successive timesteps.

    What changes slowly with the timestep is no chance and cancels, or nearly: it is never too
    small for that reason. NaN where there is one timestep.
    """
    captions, times = rises.shape[-2:]
    differences = rises.diff(dim=-1).square().mean((-2, -1))
    return (differences / 2 / (captions * times)).sqrt()


def reduced(rises: Tensor, flips: str = "max") -> tuple[Tensor, Tensor]:
    """Score [...] and standard error of it, [...], by ``spread``, from rises [..., F, C, T] of
    image and mirror image."""
    means, errors = rises.mean((-2, -1)), spread(rises)
    best = means.argmax(-1, keepdim=True)
    error = errors.gather(-1, best)[..., 0] if flips == "max" else errors.mean(-1)
    return over_flips(means, flips), error
