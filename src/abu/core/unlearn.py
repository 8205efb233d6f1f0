"""Unlearn a query: Newton steps up its loss, preconditioned by Fisher information (AbU, eq. 4 to
6)."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from scipy.optimize import brentq
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
    originals = {name: p.detach().clone() for name, p in params.items()}
    try:
        with torch.no_grad():
            for name, p in params.items():
                p.add_(delta[name])
        yield model
    finally:
        with torch.no_grad():
            for name, p in params.items():
                p.copy_(originals[name])


@dataclass(frozen=True)
class Newton:
    """How a query is unlearned: ``steps`` Newton steps, F as ``curvature`` says
    (``abu.core.curvature``) and damped.

    Each step adds ``(alpha / n) F^-1 gradient`` (eq. 5). With ``relative_norm`` in place of
    ``alpha`` each is scaled to ``relative_norm / steps`` of ``||theta_0||``: step sizes do not
    carry over between models, relative norms nearly do. With ``rise`` in their place, to where the
    query's loss has risen by ``rise / steps`` of what it was: what a length does to the model
    depends on the damping, so dampings are compared at one rise. ``draws``: noises for each
    timestep of the gradient. Raises ValueError for steps of no length.
    """

    curvature: str
    damping: float
    draws: int
    steps: int = 1
    alpha: float | None = None
    n: int | None = None
    relative_norm: float | None = None
    rise: float | None = None

    def __post_init__(self):
        options = {"alpha": self.alpha, "relative_norm": self.relative_norm, "rise": self.rise}
        sizes = [size for size in options.values() if size is not None]
        summary = ", ".join(f"{name} {size}" for name, size in options.items())
        if len(sizes) != 1:
            raise ValueError(f"give one of alpha, relative_norm and rise; found {summary}")
        check_counts(steps=self.steps, n=1 if self.alpha is None else self.n or 0)
        if not sizes[0] > 0:
            raise ValueError(f"the step has no length: {summary}; expected a number above 0")

    def scale(self, weights: float, direction: float) -> float:
        """Factor of a step of known length, from the lengths of the weights and of its
        direction."""
        if self.relative_norm is None:
            return (self.alpha or 0.0) / (self.n or 1)
        return self.relative_norm * weights / self.steps / direction


def unlearn(
    model: nn.Module,
    gradient: Callable[[nn.Module, int], Tensors],
    precondition: Callable[[Tensors], Tensors],
    newton: Newton,
    loss: Callable[[], float],
) -> Tensors:
    """Change of the weights, ``theta - theta_0``, that unlearns a query.

    ``gradient(model, step)`` is that of the query's loss; ``precondition`` applies ``F^-1``;
    ``loss()`` is the query's under the model as it stands, asked for a ``rise`` alone. The model is
    unchanged. Raises FloatingPointError for a step that is not finite, ValueError for a rise that
    no step reaches.
    """
    delta: Tensors = {}
    start = loss() if newton.rise else 0.0
    for step in range(newton.steps):
        with moved(model, delta):
            direction = precondition(gradient(model, step))
        length = norm({name: model.get_parameter(name).detach() for name in direction})
        if newton.rise:
            target_loss = start * (1 + newton.rise * (step + 1) / newton.steps)
            reach = partial(loss_along, loss, model, delta, direction)
            scale = scale_to(target_loss, reach, length / norm(direction))
        else:
            scale = newton.scale(length, norm(direction))
        delta = along(delta, direction, scale)
    for name, d in delta.items():
        check_finite(f"step of {name}", d)
    return delta


def along(delta: Tensors, direction: Tensors, scale: float) -> Tensors:
    """A move, and so much of a direction after it."""
    return {name: delta.get(name, 0) + scale * d for name, d in direction.items()}


def loss_along(
    loss: Callable[[], float], model: nn.Module, delta: Tensors, direction: Tensors, scale: float
) -> float:
    """The query's loss there."""
    with moved(model, along(delta, direction, scale)):
        return loss()


def scale_to(wanted: float, loss: Callable[[float], float], whole: float) -> float:
    """Scale of a direction at which ``loss(scale)`` is ``wanted``, within 2 % of the scale;
    ``whole``: the scale of a move as long as the weights. Raises ValueError where that does not
    reach it, RuntimeError where no scale is found."""
    low, high = 0.0, whole / 1000
    while (reached := loss(high)) < wanted:
        low, high = high, 2 * high
        if low > whole:
            problem = "a move as long as the weights and longer raises the query's loss to"
            raise ValueError(f"{problem} {reached:.4g}; {wanted:.4g} was asked for")
    options = {"xtol": high / 10_000, "rtol": 0.01}
    return float(brentq(lambda scale: loss(scale) - wanted, low, high, **options))


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
