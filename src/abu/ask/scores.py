"""Scores of a query's candidates with standard errors, from several noise draws of its gradient.

A score is ``r g.Delta + r^2 |J Delta|^2 / D`` (``abu.core.influence``), with Delta the query's
Newton step, as long as the attributed weights, and r its relative norm. Its standard error joins
what is chance in it: the noise of the query's gradient (the jackknife over draws) and the noise
under which the image's own loss, gradient and cotangents were taken (its spread over timesteps).
It does not cover what a retrained model would say: the training's own randomness, the model's
curvature beyond second order, the coordinates that the store leaves out, the choice of damping.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from abu.core.store import answer
from abu.core.unlearn import over_flips
from abu.data.readers import Tensors
from abu.judge.errors import reduced

CHUNK = 64  # images of the store in memory at a time


def left_out(groups: Tensors) -> Tensors:
    """The mean of G draws of a gradient, [G, *shape] by weight, then its means without each draw:
    [1 + G, *shape]."""
    count = len(next(iter(groups.values())))
    return {
        name: torch.cat([draws.mean(0, keepdim=True), (draws.sum(0) - draws) / (count - 1)])
        for name, draws in groups.items()
    }


def jackknife(scores: Tensor) -> Tensor:
    """Standard error [...] of a number from its G values [G, ...] without each draw."""
    return (len(scores) - 1) ** 0.5 * scores.std(0, correction=0)


@dataclass(frozen=True)
class Scores:
    """Scores of candidates and what is chance in them, float64 [n] each: standard errors by the
    noise of the query's gradient, ``query``, and by that of the images' own losses, ``image``."""

    values: Tensor
    query: Tensor
    image: Tensor

    @property
    def errors(self) -> Tensor:
        """Standard errors of both together; NaN where there is no estimate."""
        return torch.hypot(self.query, self.image)


def from_store(
    store: np.ndarray | Tensor,
    queries: Sequence[Tensor],
    lengths: Sequence[float],
    dims: int,
    flips: str = "max",
) -> list[Scores]:
    """Scores of all images for each query.

    ``queries``: coordinates [1 + G, p] (``Basis.of``) of the moves of ``left_out``; ``lengths``:
    relative norm of each query's move; ``dims``: D. The store is read once, in parts; a query's
    numbers are to the bit those that it has alone.
    """
    parts: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in queries]
    for start in range(0, len(store), CHUNK):
        chunk = torch.as_tensor(np.asarray(store[start : start + CHUNK])).float()
        for scored, coordinates, r in zip(parts, queries, lengths):
            linear, curved = next(answer(chunk, coordinates, dims, len(chunk)))
            rises = r * linear + r * r * curved.mean(-1)
            scores = over_flips(rises.double().mean((-2, -1)), flips)
            scored.append((scores[0], jackknife(scores[1:]), reduced(rises[0].double(), flips)[1]))
    return [Scores(*(torch.cat(column) for column in zip(*scored))) for scored in parts]
