"""Quick answers against finite ones, on a case done by hand."""

import numpy as np
import torch
from scipy.stats import spearmanr

from abu.core.quick import Quick
from abu.judge.agreement import agreement, along, estimators_of, recalls, refined

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


def test_each_term_is_held_against_each_finite_step() -> None:
    line = torch.tensor([[[3.0], [2], [1], [0]]])  # [1, N, F]
    square, exact = Quick(line, 10 * line.flip(1)), Quick(line, line)
    walked = np.array([[4.0, 3, 2, 1], [1.0, 2, 3, 4]])
    table = along({"short": 0.01, "long": 1.0}, walked, square, exact).set_index("relative_norm")
    assert table.index.tolist() == ["short", "long"] and table.rise.tolist() == [2.5, 2.5]
    assert table.linear.tolist() == [1, -1] and table["Gauss-Newton"].tolist() == [-1, 1]
    assert table.both.tolist() == [1, 1], "of a long move the square outweighs the line"
    assert table["both, exact"].tolist() == [1, -1]


def test_estimators_are_means_of_correlations() -> None:
    terms = torch.arange(20.0).reshape(2, 2, 5, 1).sin()
    parts = {("cotangents", 1): Quick(*terms), ("timesteps", 2): Quick(*terms.flip(0))}
    lengths = np.array([0.1, 0.7])
    table = estimators_of(parts, lengths, FINITE)
    assert table[["what", "value"]].to_numpy().tolist() == [list(key) for key in parts]
    for found, part in zip(table.spearman, parts.values()):
        each = [spearmanr(part.of(q).rise(lengths[q])[0], FINITE[q])[0] for q in range(2)]
        assert np.isclose(found, np.mean(each))


def test_a_second_stage_replaces_what_was_picked() -> None:
    picked, second = np.array([[0, 2], [4, 1]]), np.array([[9.0, 8], [7, 6]])
    scores, same = refined(FINITE, picked, second)
    assert scores.tolist() == [[9, 4, 8, 2, 1], [1, 6, 3, 4, 7]] and same == 1
    assert refined(FINITE, picked, second[:, ::-1])[1] == -1
    assert FINITE[0, 0] == 5, "the first stage's scores stay"
