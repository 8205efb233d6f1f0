"""What a bank says of a study's queries: known ones, by pairs that choose and pairs that report."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from abu.diffusion.noise import stream
from abu.judge.lds import lds, seed_correlation
from abu.judge.verdict import seeds_agree, verdict_of

HALVES = np.stack([stream("half", p).permutation(10) < 5 for p in range(9)])
DIFFERENCES = {seed: stream("loss", seed).standard_normal((9, 6)) for seed in (1, 2)}


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


@pytest.mark.parametrize("tuning, pairs", [(True, [2, 5, 8]), (False, [0, 1, 3, 4, 6, 7])])
def test_scores_are_judged_by_the_pairs_asked_for(tuning: bool, pairs: list[int]) -> None:
    verdict = verdict_of(Recorded(), NAMES, LATENTS, tuning)
    assert verdict.known.tolist() == [True, False, True] and verdict.rows.tolist() == [5, 0]
    assert verdict and verdict.pairs == pairs and verdict.seed == 1
    scores = stream("scores").standard_normal((3, 10))
    expected = lds(scores[[0, 2]], HALVES[pairs], DIFFERENCES[1][pairs][:, [5, 0]])
    assert np.array_equal(verdict.lds(scores), expected)


def test_too_little_says_nothing() -> None:
    assert not verdict_of(Recorded(), ["q4"], LATENTS[:1], None)
    assert not verdict_of(Recorded(both=2), NAMES, LATENTS, None, nth=1)
    empty = Recorded(pair_seeds=[])
    empty.pairs = lambda seed, tuning=None: (HALVES[:0], DIFFERENCES[1][:0], [])
    assert not verdict_of(empty, NAMES, LATENTS, None)


def test_seeds_agree_over_the_pairs_that_both_have() -> None:
    r, pairs = seeds_agree(Recorded(), NAMES, LATENTS)
    first, second = (DIFFERENCES[seed][:4][:, [5, 0]] for seed in (1, 2))
    assert pairs == 4 and np.array_equal(r, seed_correlation(first, second))
    assert len(seeds_agree(Recorded(both=2), NAMES, LATENTS)[0]) == 0
