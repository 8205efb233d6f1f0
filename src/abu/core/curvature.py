"""What stands for F in the Newton step: nothing, Fisher's diagonal, or Kronecker factors with
corrected eigenvalues.

All are kept in one dictionary by the weights' names: ``<weight>`` is the diagonal;
``<weight>.outputs`` [O, O], ``<weight>.inputs`` [I, I] and ``<weight>.values`` [O, I] are
eigenvectors (columns) and eigenvalues of EK-FAC (George et al. 2018, arXiv 1806.03884; used for
AbU+ in arXiv 2511.10721).
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from abu.core.taps import Taps
from abu.data.checks import check_finite
from abu.data.readers import Tensors

CURVATURES = ("identity", "diagonal", "ekfac")


def precondition(kind: str, gradient: Tensors, cached: Tensors, damping: float) -> Tensors:
    """``F^-1 gradient`` for a ``kind`` in CURVATURES.

    Raises ValueError for another kind or a negative damping, and KeyError where ``cached`` lacks
    what the kind needs.
    """
    if kind not in CURVATURES:
        raise ValueError(f"curvature is {kind!r}; expected one of {CURVATURES}")
    if kind == "identity":
        return gradient
    if not damping >= 0:
        raise ValueError(f"damping is {damping}; expected 0 or more")
    apply = diagonal_direction if kind == "diagonal" else ekfac_direction
    return apply(gradient, cached, damping)


def fetch(cached: Tensors, names: Iterable[str], kind: str) -> list[Tensor]:
    """Entries of ``cached``; raises KeyError that says which curvature was not cached."""
    if lacking := [name for name in names if name not in cached]:
        problem = f"the cache has no {kind} curvature for {lacking[0]}"
        raise KeyError(f"{problem}: cache it with curvature: {kind}")
    return [cached[name] for name in names]


def diagonal_direction(gradient: Tensors, cached: Tensors, damping: float) -> Tensors:
    """``(F + damping * mean(F))^-1 gradient`` with diagonal F (eq. 5), the mean taken over all
    attributed weights.

    Without damping a weight that no training image moves gets an unbounded step: zero Fisher then
    raises ValueError.
    """
    fisher = dict(zip(gradient, fetch(cached, gradient, "diagonal")))
    ridge = damping * torch.cat([f.flatten() for f in fisher.values()]).mean()
    check_positive(fisher.values(), ridge)
    return {name: (g / (fisher[name] + ridge)).to(g.dtype) for name, g in gradient.items()}


def ekfac_direction(gradient: Tensors, cached: Tensors, damping: float) -> Tensors:
    """``U_G [(U_G^T g U_A) / (Lambda + damping * mean(Lambda))] U_A^T``, the mean taken layer by
    layer (arXiv 2511.10721)."""
    directions = {}
    for name, g in gradient.items():
        keys = [f"{name}.{suffix}" for suffix in ("outputs", "inputs", "values")]
        left, right, values = fetch(cached, keys, "ekfac")
        ridge = damping * values.mean()
        check_positive([values], ridge)
        solved = (left.mT @ g.to(left) @ right) / (values + ridge)
        directions[name] = (left @ solved @ right.mT).to(g.dtype)
    return directions


def check_positive(values: Iterable[Tensor], ridge: Tensor) -> None:
    """Raise ValueError where a curvature and its damping leave a zero to divide by."""
    if not min(value.min() for value in values) + ridge > 0:
        raise ValueError("Fisher information has zeros: give a damping above 0")


def summed(batches: Iterable[Taps], *parts: Callable[[Taps], Tensors]) -> Tensors:
    """Float64 sums over batches of what each of ``parts`` makes of a batch; one walk serves them
    all."""
    total: Tensors = {}
    for taps in batches:
        for moment in parts:
            for name, value in moment(taps).items():
                total[name] = total.get(name, 0) + value.double()
    for name, value in total.items():
        check_finite(f"curvature of {name}", value)
    return total


def squares(taps: Taps, weights: Sequence[str]) -> Tensors:
    """``sum_b g_b^2`` of each weight: Fisher's diagonal, times the number of examples."""
    return {name: square_sum(taps.gradient(name)) for name in weights}


def factors(taps: Taps, weights: Sequence[str]) -> Tensors:
    """``<weight>.inputs`` [I, I], ``<weight>.outputs`` [O, O]: sums over rows and tokens of ``x
    x^T`` and ``dy dy^T``.

    Raises TypeError for weights of other than Linear layers.
    """
    sums = {}
    for name in weights:
        for side, z in zip(("inputs", "outputs"), taps.tokens(name)):
            flat = z.flatten(0, 1)
            sums[f"{name}.{side}"] = flat.mT @ flat
    return sums


def rotated_squares(taps: Taps, weights: Sequence[str], basis: Tensors) -> Tensors:
    """``<weight>.values``: ``sum_b (U_G^T g_b U_A)^2``, the diagonal of F in the eigenbasis, times
    the number of examples."""
    return {f"{name}.values": square_sum(rotated(taps, name, basis)) for name in weights}


def eigenbasis(sums: Tensors) -> Tensors:
    """Eigenvectors of each factor, in columns by falling eigenvalue."""
    return {name: torch.linalg.eigh(factor).eigenvectors.flip(1) for name, factor in sums.items()}


def rotated(taps: Taps, name: str, basis: Tensors) -> Tensor:
    """Per-example gradients of one weight in the eigenbasis, ``U_G^T g U_A``: [B, O, I]."""
    x, dy = taps.tokens(name)
    return torch.bmm((dy @ basis[f"{name}.outputs"].to(dy)).mT, x @ basis[f"{name}.inputs"].to(x))


def square_sum(gradients: Tensor) -> Tensor:
    """``sum_b g_b^2`` of [B, ...]."""
    return torch.linalg.vector_norm(gradients, dim=0).square()
