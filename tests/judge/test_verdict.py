"""What a bank says of a study's queries: known ones, by pairs that choose and pairs that report."""

import numpy as np
import pytest
from small_bank import DIFFERENCES, HALVES, LATENTS, NAMES, Recorded

from abu.diffusion.noise import stream
from abu.judge.lds import correlations, lds
from abu.judge.verdict import seeds_agree, verdict_of


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
    assert pairs == 4 and np.array_equal(r, correlations(first.T, second.T))
    assert len(seeds_agree(Recorded(both=2), NAMES, LATENTS)[0]) == 0
