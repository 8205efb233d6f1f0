"""AbU's answer to second order, for a move of any length."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from abu.core.influence import means
from abu.core.unlearn import over_flips

METHODS = {"abu-linear": (1,), "abu-gauss-newton": (2,), "abu-gn": (1, 2)}
"""The orders that each method of one answer adds up."""


@dataclass(frozen=True)
class Quick:
    """What moves as long as the attributed weights do to images and their mirror images, means over
    captions and timesteps, [Q, N, F]: ``linear``, ``grad L . u``, and ``curved``, ``|J u|^2 / D``
    (``abu.core.influence.means`` gives both)."""

    linear: Tensor
    curved: Tensor

    def of(self, q: int) -> "Quick":
        """That of one query."""
        return Quick(self.linear[q : q + 1], self.curved[q : q + 1])

    def rise(
        self, length: float | np.ndarray, orders: Sequence[int] = (1, 2), flips: str = "max"
    ) -> np.ndarray:
        """Rise of each image's loss, float64 [Q, N], by moves of relative norm ``length``, one for
        all or [Q]: ``r linear + r^2 curved``, or one of both ``orders`` alone."""
        r = torch.as_tensor(length, dtype=torch.float64).reshape(-1, 1, 1)
        terms = {1: r * self.linear.double(), 2: r * r * self.curved.double()}
        total = torch.stack([terms[order] for order in orders]).sum(0)
        return over_flips(total, flips).numpy()


def terms(parts: Iterable[Mapping[str, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """``linear`` and ``curved`` of tasks' results (``abu.core.attribution.influence_of``,
    ``forward_of``), one after the other."""
    return ((result["linear"], result["curved"]) for result in parts)


def quick_of(parts: Iterable[tuple[Tensor, Tensor]], *choices: tuple[slice, slice]) -> list[Quick]:
    """Answers from parts of the images, one of each of the ``choices``, as
    ``abu.core.influence.means`` takes both."""
    return [Quick(*pair) for pair in means(parts, *choices)]


def fewer(
    parts: Iterable[tuple[Tensor, Tensor]], timesteps: int, cotangents: int
) -> tuple[dict[tuple[str, int], Quick], Quick]:
    """Answers of parts of a pass, by what they have and how many of it: the first ``cotangents``,
    one and more, and every eighth, fourth, second and each of the ``timesteps``. Beside them the
    answer of the last cotangent alone."""
    everything = slice(None)
    choices = {("cotangents", n): (everything, slice(n)) for n in range(1, cotangents + 1)}
    for step in (8, 4, 2, 1):
        if step <= timesteps:
            some = slice(None, None, step)
            choices["timesteps", len(range(0, timesteps, step))] = some, everything
    *answers, last = quick_of(parts, *choices.values(), (everything, slice(-1, None)))
    return dict(zip(choices, answers)), last
