"""Unlearn a query: Newton steps up its loss, preconditioned by Fisher information (AbU, eq. 4 to
6)."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from abu.data.checks import check_counts, check_finite
from abu.data.readers import Tensors

FLIPS = ("max", "mean")


def norm(tensors: Tensors) -> float:
    """Euclidean norm of all tensors together."""
    return torch.stack([t.double().norm() for t in tensors.values()]).norm().item()


@contextmanager
def moved(model: nn.Module, delta: Tensors):
    """Context in which the named weights are moved by ``delta``; they are restored to the bit on
    leaving."""
    params = {name: model.get_parameter(name) for name in delta}
    kept = {name: p.detach().clone() for name, p in params.items()}
    try:
        with torch.no_grad():
            for name, p in params.items():
                p.add_(delta[name])
        yield model
    finally:
        with torch.no_grad():
            for name, p in params.items():
                p.copy_(kept[name])


@dataclass(frozen=True)
class Newton:
    """How a query is unlearned: ``steps`` Newton steps, F as ``curvature`` says
    (``abu.core.curvature``) and damped.

    Each step adds ``(alpha / n) F^-1 gradient`` (eq. 5). With ``relative_norm`` in place of
    ``alpha`` each is scaled to ``relative_norm / steps`` of ``||theta_0||``: step sizes do not
    carry over between models, relative norms nearly do. ``draws``: noises for each timestep of the
    gradient. Raises ValueError for steps of no length.
    """

    curvature: str
    damping: float
    draws: int
    steps: int = 1
    alpha: float | None = None
    n: int | None = None
    relative_norm: float | None = None

    def __post_init__(self):
        alpha, length = self.alpha, self.relative_norm
        if (alpha is None) == (length is None):
            raise ValueError(f"give one of alpha and relative_norm; found {alpha} and {length}")
        check_counts(steps=self.steps, n=1 if alpha is None else self.n or 0)
        if not (alpha or length or 0) > 0:
            found = f"alpha is {alpha}, relative_norm {length}"
            raise ValueError(f"{found}; expected a number above 0")

    def scale(self, weights: float, direction: float) -> float:
        """Factor of a step, from the lengths of the weights and of its direction."""
        if self.relative_norm is None:
            return (self.alpha or 0.0) / (self.n or 1)
        return self.relative_norm * weights / self.steps / direction


def unlearn(
    model: nn.Module,
    gradient: Callable[[nn.Module, int], Tensors],
    precondition: Callable[[Tensors], Tensors],
    newton: Newton,
) -> Tensors:
    """Change of the weights, ``theta - theta_0``, that unlearns a query.

    ``gradient(model, step)`` is that of the query's loss; ``precondition`` applies ``F^-1``. The
    model is unchanged. Raises FloatingPointError for a step that is not finite.
    """
    delta: Tensors = {}
    for step in range(newton.steps):
        with moved(model, delta):
            direction = precondition(gradient(model, step))
        weights = {name: model.get_parameter(name).detach() for name in direction}
        scale = newton.scale(norm(weights), norm(direction))
        delta = {name: delta.get(name, 0) + scale * d for name, d in direction.items()}
    for name, d in delta.items():
        check_finite(f"step of {name}", d)
    return delta


def score(before: Tensor, after: Tensor, flips: str = "max") -> Tensor:
    """``tau = L(z, theta) - L(z, theta_0)`` (eq. 6) of each image, [N], from loss tables [N, F, C,
    T].

    Mean over captions and timesteps; over image and mirror image the maximum, or the mean (an
    ablation).
    """
    if before.shape != after.shape:
        shapes = f"{tuple(before.shape)} and {tuple(after.shape)}"
        raise ValueError(f"loss tables differ in shape: {shapes}")
    return over_flips((after - before).double().mean((2, 3)), flips)


def over_flips(rise: Tensor, flips: str = "max") -> Tensor:
    """One number an image, [..., N], of those of image and mirror image, [..., N, F]: the maximum,
    or the mean.

    Raises ValueError for another way in ``flips``.
    """
    if flips not in FLIPS:
        raise ValueError(f"flips are reduced by {flips!r}; expected one of {FLIPS}")
    return {"max": rise.amax(-1), "mean": rise.mean(-1)}[flips]
