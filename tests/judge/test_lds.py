"""The linear datamodelling score, where it is known."""

import numpy as np
import pytest

from abu.diffusion.noise import stream
from abu.judge.lds import correlations, lds


def test_lds_of_the_true_linear_scores_is_one() -> None:
    """Losses of a linear model of the data: ``-sum_{z in S} tau`` and a constant, so that its
    scores predict them all."""
    tau = stream("tau").standard_normal((4, 20))
    subsets = np.stack([stream("subset", m).permutation(20) < 10 for m in range(16)])
    losses = 3.0 - np.array([[tau[q, s].sum() for s in subsets] for q in range(4)])
    assert np.allclose(lds(tau, subsets, losses), 1)
    assert np.allclose(lds(-tau, subsets, losses), -1)
    other = stream("other").standard_normal((4, 20))
    assert abs(lds(other, subsets, losses).mean()) < 0.5
    assert lds(np.zeros((1, 20)), subsets, losses[:1]).tolist() == [0.0]
    with pytest.raises(ValueError, match="2 subsets have no"):
        lds(tau, subsets[:2], losses[:, :2])


def test_correlations_are_those_of_ranks() -> None:
    a, b = stream("a").standard_normal((3, 12)), stream("b").standard_normal((3, 12))
    ranks = lambda row: np.argsort(np.argsort(row)).astype(float)
    expected = [np.corrcoef(ranks(x), ranks(y))[0, 1] for x, y in zip(a, b)]
    assert np.allclose(correlations(a, b), expected)
