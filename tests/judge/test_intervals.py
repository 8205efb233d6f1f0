"""How sure a mean is, against definitions."""

import numpy as np
import pytest

from abu.diffusion.noise import stream
from abu.judge.intervals import interval, paired, standard_error


def test_statistics_agree_with_definitions() -> None:
    assert standard_error(np.array([1.0, 3.0])) == pytest.approx(1.0)
    values = stream("values").standard_normal(400) + 5
    low, high = interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert interval(values) == (low, high) and interval(np.ones(1)) == (1, 1)
    assert paired(np.arange(1, 7), np.zeros(6)) == pytest.approx(2 / 2**6)  # six equal signs
    assert paired(np.ones(5), np.ones(5)) == 1
