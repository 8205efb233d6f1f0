"""AbU's answer to second order, for a move of any length."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from abu.core.unlearn import over_flips


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
