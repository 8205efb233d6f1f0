"""A search of options: the judge's choice against a plain loop, and what it does without one."""

import numpy as np
import pytest

from abu.diffusion.noise import stream
from abu.judge.lds import lds
from abu.judge.ranking import average_precision
from abu.judge.search import Search, mean_precision
from abu.judge.sharpen import sharpen
from abu.judge.verdict import Verdict

HALVES = np.stack([stream("half", p).permutation(8) < 4 for p in range(5)])
DIFFERENCES = stream("difference").standard_normal((5, 3))
KNOWN, RIGHT = np.array([True, True, False, True]), np.eye(4, 8, dtype=bool)
VERDICT = Verdict(KNOWN, np.arange(3), HALVES, DIFFERENCES, list(range(5)), 1)
SCORES = {r: stream("scores", int(10 * r)).standard_normal((4, 8)) for r in (0.1, 0.5, 2.0)}
BETAS = [0.5, 1.0]


def searched(verdict: Verdict | None, right: np.ndarray) -> Search:
    search = Search(verdict, right, BETAS)
    for ridge in search.of(SCORES):
        search.add("kernel", SCORES[ridge], ridge=ridge)
    search.add("plain", SCORES[0.1])
    return search


def of_lds(scores: np.ndarray) -> float:
    return lds(scores[KNOWN], HALVES, DIFFERENCES).mean()


@pytest.mark.parametrize("judge, verdict", [(of_lds, VERDICT), (None, None)])
def test_it_chooses_what_a_loop_finds_best(judge, verdict) -> None:
    search, judge = searched(verdict, RIGHT), judge or (lambda s: mean_precision(RIGHT, s))
    settings = [(r, beta) for r in SCORES for beta in (None, *BETAS)]
    best = max(settings, key=lambda s: judge(sharpen(SCORES[s[0]], s[1])))
    chosen = search.chosen({"plain": ["a", "b"]})
    assert (chosen["kernel"]["ridge"], chosen["kernel"]["sharpness"]) == best
    assert chosen["plain"].keys() == {"sharpness", "parts"} and not search.blind
    worth = search.worth()
    assert worth.settings.to_dict() == {"kernel": 9, "plain": 3}
    assert worth["as it is"]["kernel"] == max(judge(s) for s in SCORES.values())
    assert search.panels()["kernel"].shape == (3, 3)


def test_precision_is_the_mean_over_queries_with_right_images() -> None:
    right = RIGHT.copy()
    right[1] = False
    rows = [average_precision(SCORES[0.1][q], right[q]) for q in (0, 2, 3)]
    assert mean_precision(right, SCORES[0.1]) == pytest.approx(np.mean(rows))


def test_where_nothing_is_judged_the_first_is_taken() -> None:
    search = searched(None, np.zeros_like(RIGHT))
    assert search.blind and len(search.tried) == 2
    assert search.chosen({})["kernel"] == {"ridge": 0.1, "sharpness": None}


def test_what_was_not_tried_is_named() -> None:
    with pytest.raises(KeyError, match=r"'dtrak' was not tried; expected one of \['a', 'b'\]"):
        Search(None, RIGHT, [], [{"method": "b"}, {"method": "a"}]).best("dtrak")


def test_a_step_by_its_rise_has_no_length_of_its_own() -> None:
    search = Search(VERDICT, RIGHT, [])
    search.add("abu", SCORES[0.1], rise=1.0, damping=0.1, relative_norm=0.3)
    assert search.chosen({})["abu"] == {"rise": 1.0, "damping": 0.1, "sharpness": None}
