"""How sure a mean is, against definitions."""

import numpy as np
import pytest

from abu.diffusion.noise import stream
from abu.judge.intervals import clustered, holm, paired, two_sided


def test_statistics_agree_with_definitions() -> None:
    values = stream("values").standard_normal(400) + 5
    low, high = np.percentile(clustered(values[:, None], np.arange(400), 0), [2.5, 97.5])
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert paired(np.arange(1, 7), np.zeros(6)) == pytest.approx(2 / 2**6)  # six equal signs
    assert paired(np.ones(5), np.ones(5)) == 1


def test_rows_of_a_cluster_are_drawn_together() -> None:
    values = np.repeat([[0.0], [1.0]], 50, 0)  # all of the spread is between two clusters
    drawn = clustered(values, np.repeat(["a", "b"], 50), seed=1, resamples=400)[:, 0]
    assert set(drawn) == {0.0, 0.5, 1.0} and np.mean(drawn == 0.5) == pytest.approx(0.5, abs=0.1)


def test_p_values_of_draws_and_their_correction() -> None:
    assert two_sided(np.arange(1.0, 100)) == pytest.approx(2 / 100)
    assert two_sided(np.array([-1.0, 1, 2])) == 1 and two_sided(-np.arange(1.0, 100)) == 0.02
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])
