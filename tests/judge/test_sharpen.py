"""Sharpening keeps the order and changes what a score is worth."""

import numpy as np
import pytest

from abu.diffusion.noise import stream
from abu.judge.sharpen import product, sharpen

SCORES = stream("scores").standard_normal((3, 50))


def test_order_stays_and_the_first_weigh_more() -> None:
    for sharpness in (0.25, 2.0):
        found = sharpen(SCORES, sharpness)
        assert (found.argsort(1) == SCORES.argsort(1)).all() and (found.max(1) == 1).all()
    share = [(s / s.sum(1, keepdims=True)).max() for s in (sharpen(SCORES, b) for b in (0.25, 2.0))]
    assert share[0] < share[1]
    assert sharpen(SCORES, None) is SCORES


def test_scale_and_shift_of_scores_do_not_matter() -> None:
    assert np.allclose(sharpen(3 * SCORES - 7, 0.5), sharpen(SCORES, 0.5))
    assert (sharpen(np.full((2, 4), 3.0), 0.5) == 1).all()


def test_a_sharpness_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="sharpness is 0"):
        sharpen(SCORES, 0)


def test_a_product_is_one_of_sharpened_scores() -> None:
    other = stream("other").standard_normal(SCORES.shape)
    both = product([SCORES, 5 * other + 1])
    each = [sharpen(scores, 0.7) for scores in (SCORES, other)]
    expected = each[0] * each[1]
    found = np.exp(0.7 * both)
    assert np.allclose(
        found / found.max(1, keepdims=True), expected / expected.max(1, keepdims=True)
    )
    assert np.allclose(product([SCORES, np.ones((3, 50))]), product([SCORES]))
