"""A bank's own scores, against plain least squares."""

import importlib.util

import numpy as np
import pytest

from abu import ROOT
from abu.diffusion.noise import stream
from abu.judge.lds import lds

SPEC = importlib.util.spec_from_file_location("regressed", ROOT / "benchmarks/regressed.py")
benchmark = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(benchmark)
regressed = benchmark.regressed
DRAW = stream("regressed")
HALVES, TRUTH = DRAW.random((40, 12)) < 0.5, DRAW.normal(size=(3, 12))
DIFFERENCES = -(TRUTH @ (2.0 * HALVES - 1).T).T


def test_it_is_ridge_regression() -> None:
    found = regressed(HALVES, DIFFERENCES, ridge=0.5)
    x, penalty = 2.0 * HALVES - 1, np.sqrt(0.5 * 12) * np.eye(12)
    expected, *_ = np.linalg.lstsq(
        np.vstack([-x, penalty]), np.vstack([DIFFERENCES, np.zeros((12, 3))]), rcond=None
    )
    assert found == pytest.approx(expected.T)
    assert regressed(HALVES, DIFFERENCES, ridge=1e-9) == pytest.approx(TRUTH, abs=1e-5)


def test_a_prior_that_is_right_is_kept_and_one_that_is_not_is_left() -> None:
    assert regressed(HALVES[:4], DIFFERENCES[:4], 5 * TRUTH) == pytest.approx(TRUTH)
    against = regressed(HALVES[:4], DIFFERENCES[:4], -TRUTH)
    assert against == pytest.approx(regressed(HALVES[:4], DIFFERENCES[:4]))
    assert regressed(HALVES, DIFFERENCES, 0 * TRUTH) == pytest.approx(
        regressed(HALVES, DIFFERENCES)
    )


def test_more_pairs_foretell_more() -> None:
    noisy = DIFFERENCES + 3 * DRAW.normal(size=DIFFERENCES.shape)
    few, many = (regressed(HALVES[:k], noisy[:k]) for k in (3, 30))
    judged = [lds(scores, HALVES[30:], DIFFERENCES[30:]).mean() for scores in (few, many)]
    assert judged[0] < judged[1]
