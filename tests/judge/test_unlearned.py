"""What unlearning did, on a case done by hand."""

import numpy as np
import pytest

from abu.judge.unlearned import each_query, over_queries

SCORES = np.array([[4.0, 3, 2, 1], [1, 2, 3, 4], [1, 2, 3, 4]])
RIGHT = np.array([[True, False, False, True], [False, False, False, True], [False] * 4])
RISES = np.array([[3.0, 0.5, 0.1], [0.3, 1, 0.1], [0, 0.2, 2]])
MOVES = np.array([0.1, 0.2, 0.6])


def test_each_query_by_hand() -> None:
    table = each_query(SCORES, RIGHT, RISES, known=np.array([True, False, True]))
    assert table.rise.tolist() == [3, 1, 2]
    assert table.others_rise.tolist() == pytest.approx([0.3, 0.2, 0.1])
    assert table.own_recall[0] == 0.5 and table.chance[0] == 3 / 4, "one of two in the top three"
    assert table.own_recall[1:].isna().all(), "not known, and without a right image"
    assert table.precision[:2].tolist() == pytest.approx([(1 + 2 / 4) / 2, 1])
    means = over_queries(table, MOVES)
    assert means["target_rise"] == 2 and means["others_rise"] == pytest.approx(0.2)
    assert means["relative_norm"] == pytest.approx(0.3) and means["queries"] == 3
    assert means["own_recall"] == 0.5 and means["own_recall_se"] is None, "of one query"
    assert means["average_precision_se"] == pytest.approx(0.125)


def test_what_is_not_there_is_not_told() -> None:
    table = each_query(SCORES[:1], RIGHT[2:], RISES[:1, :1], known=np.array([True]))
    means = over_queries(table, MOVES[:1])
    for name in ("others_rise", "own_recall", "random_recall", "average_precision"):
        assert means[name] is None, name
    assert means["target_rise"] == 3
