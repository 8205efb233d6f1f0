"""Unlearn a query: Newton steps up its loss, preconditioned by Fisher information (AbU, eq. 4 to 6)."""

from collections.abc import Callable
from contextlib import contextmanager

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
    """Context in which the named weights are moved by ``delta``; they are restored to the bit on leaving."""
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


def unlearn(
    model: nn.Module,
    gradient: Callable[[nn.Module, int], Tensors],
    precondition: Callable[[Tensors], Tensors],
    steps: int = 1,
    alpha: float | None = None,
    n: int | None = None,
    relative_norm: float | None = None,
) -> Tensors:
    """Change of the weights, ``theta - theta_0``, that unlearns a query.

    Each of ``steps`` steps adds ``(alpha / n) F^-1 gradient`` (eq. 5), where ``gradient(model, step)`` is that of the
    query's loss and ``precondition`` applies ``F^-1`` (see ``abu.core.curvature``). With ``relative_norm`` in place of ``alpha``,
    each step is scaled to ``relative_norm / steps`` of ``||theta_0||``: step sizes do not carry over between models,
    relative norms nearly do. The model is unchanged. Raises ValueError for steps of no length, FloatingPointError for one that is not finite.
    """
    if (alpha is None) == (relative_norm is None):
        raise ValueError(f"give one of alpha and relative_norm; found {alpha} and {relative_norm}")
    check_counts(steps=steps, **({} if alpha is None else {"n": n}))
    if not (alpha if relative_norm is None else relative_norm) > 0:
        raise ValueError(
            f"alpha is {alpha}, relative_norm {relative_norm}; expected a number above 0"
        )
    delta: Tensors = {}
    for step in range(steps):
        with moved(model, delta):
            direction = precondition(gradient(model, step))
        weights = {name: model.get_parameter(name).detach() for name in direction}
        scale = (
            alpha / n
            if relative_norm is None
            else relative_norm * norm(weights) / steps / norm(direction)
        )
        delta = {name: delta.get(name, 0) + scale * d for name, d in direction.items()}
    for name, d in delta.items():
        check_finite(f"step of {name}", d)
    return delta


def score(before: Tensor, after: Tensor, flips: str = "max") -> Tensor:
    """``tau = L(z, theta) - L(z, theta_0)`` (eq. 6) of each image, [N], from loss tables [N, F, C, T].

    Mean over captions and timesteps; over image and mirror image the maximum, or the mean (an ablation).
    """
    if before.shape != after.shape:
        raise ValueError(
            f"loss tables differ in shape: {tuple(before.shape)} and {tuple(after.shape)}"
        )
    return over_flips((after - before).double().mean((2, 3)), flips)


def over_flips(rise: Tensor, flips: str = "max") -> Tensor:
    """One number an image, [..., N], of those of image and mirror image, [..., N, F]: the maximum, or the mean.

    Raises ValueError for another way in ``flips``.
    """
    if flips not in FLIPS:
        raise ValueError(f"flips are reduced by {flips!r}; expected one of {FLIPS}")
    return {"max": rise.amax(-1), "mean": rise.mean(-1)}[flips]
