"""Quick answers against finite ones, on a case done by hand."""

import numpy as np

from abu.judge.agreement import agreement, recalls

FINITE = np.array([[5.0, 4, 3, 2, 1], [1, 2, 3, 4, 5]])
REVERSED = np.array([[1.0, 2, 3, 4, 5], [1, 2, 3, 4, 5]])  # of the first query
RIGHT = np.array([[True, False, False, False, False], [False] * 5])


def test_agreement_by_hand() -> None:
    table = agreement({"same": FINITE, "other": REVERSED}, FINITE, RIGHT, k=1)
    assert table.loc["same"].tolist() == [1, 1, 1, 1, 1]
    spearman, lowest, top4, top1, precision = table.loc["other"]
    assert (spearman, lowest) == (0, -1)
    assert top4 == (3 / 4 + 1) / 2 and top1 == 0.5
    assert precision == 1 / 5, "the right image stands last, of one query that has one"


def test_recall_grows_with_the_candidates() -> None:
    table = recalls({"other": REVERSED}, FINITE, 2, (0.1, 0.4, 0.8, 1.0))
    assert table.candidates.tolist() == [2, 4, 5], "fewer than the top are not asked"
    assert table.other.tolist() == [0.5, (0.5 + 1) / 2, 1.0]
