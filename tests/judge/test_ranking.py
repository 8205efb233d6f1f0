"""How rankings are measured, on cases done by hand."""

import numpy as np
import pytest

from abu.diffusion.noise import stream
from abu.judge.ranking import average_precision, choice, found_among, rank, recall


def test_recall_on_a_case_done_by_hand() -> None:
    scores, relevant = np.array([0.1, 0.9, 0.5, 0.9]), np.array([True, False, True, True])
    assert rank(scores).tolist() == [1, 3, 2, 0]
    found = [recall(scores, relevant, k) for k in (1, 2, 3, 4)]
    assert found == pytest.approx([0, 1 / 3, 2 / 3, 1])
    drawn = [recall(stream("r", i).random(20), np.arange(20) < 3, 4) for i in range(4000)]
    assert np.mean(drawn) == pytest.approx(4 / 20, abs=0.01)
    with pytest.raises(FloatingPointError):
        rank(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="recall is not defined"):
        recall(scores, relevant & False, 1)


def test_average_precision_on_a_case_done_by_hand() -> None:
    scores, own = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert average_precision(scores, own) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_overlap_of_tops_on_a_case_done_by_hand() -> None:
    wanted = np.array([[4.0, 3, 2, 1], [1, 2, 3, 4]])
    scores = np.array([[4.0, 1, 3, 2], [4, 3, 2, 1]])
    assert found_among(scores, wanted, 2, 2).tolist() == [0.5, 0.0]
    assert found_among(scores, wanted, 3, 2).tolist() == [0.5, 0.5]
    assert found_among(scores, wanted, 4, 2).tolist() == [1.0, 1.0]


def test_what_a_box_chooses_on_a_case_done_by_hand() -> None:
    scores = np.array([5.0, 4, 3, 2, 1])
    boxed, other = np.array([1, 0, 0, 1, 0], bool), np.array([0, 1, 0, 0, 1], bool)
    assert choice(scores, boxed, other) == 3 / 4 and choice(-scores, boxed, other) == 1 / 4
    for wrong in (boxed, np.zeros(5, bool)):
        with pytest.raises(ValueError, match="images of the boxed part"):
            choice(scores, boxed, wrong)
