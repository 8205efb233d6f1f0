"""A bank of nine pairs of halves of ten images, without files."""

from dataclasses import dataclass, field

import numpy as np

from abu.diffusion.noise import stream

HALVES = np.stack([stream("half", p).permutation(10) < 5 for p in range(9)])
DIFFERENCES = {seed: stream("loss", seed).standard_normal((9, 6)) for seed in (1, 2)}
DIFFERENCES[2] = DIFFERENCES[1] + 0.3 * DIFFERENCES[2]  # what two seeds share


@dataclass
class Recorded:
    """Pairs of two seeds, the second's fewer; queries q0 to q5, of which q4 was never asked."""

    both: int = 4
    ids: list = field(default_factory=lambda: list(range(10)))
    pair_seeds: list = field(default_factory=lambda: [1, 2])

    def judged(self, names, latents) -> np.ndarray:
        return np.array([-1 if name == "q4" else int(name[1:]) for name in names])

    def pairs(self, seed, tuning=None):
        numbers = [p for p in range(9 if seed == 1 else self.both) if tuning in (None, p % 3 == 2)]
        return HALVES[numbers], DIFFERENCES[seed][numbers], numbers


NAMES, LATENTS = ["q5", "q4", "q0"], np.zeros((3, 1))
