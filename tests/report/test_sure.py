"""What the page says of how sure an answer is."""

import numpy as np
import pytest

from abu.diffusion.noise import stream
from abu.judge.verdict import Verdict
from abu.report.sure import errors_of, judged_of


def test_every_query_is_judged_by_itself() -> None:
    draw = stream("sure")
    halves, scores = draw.random((8, 20)) < 0.5, draw.normal(size=(3, 20))
    known = np.array([True, False, True])
    differences = -scores[known] @ (2.0 * halves - 1).T  # as those scores foretell
    verdict = Verdict(known, np.array([0, 1]), halves, differences.T, list(range(8)), 1)
    judged = judged_of(verdict, [7, 8, 9], {"good": scores, "bad": -scores}, {"good": None}, 0, 50)
    assert judged.keys() == {7, 9} and judged[7].keys() == {"good", "bad"}
    for of_query in judged.values():
        assert np.allclose(of_query["good"], 1) and np.allclose(of_query["bad"], -1)
    sharp = judged_of(verdict, [7, 8, 9], {"good": scores}, {"good": 2.0}, 0, 50)[7]["good"]
    assert sharp.low <= sharp.lds <= sharp.high and sharp.lds < 1


def test_errors_are_of_what_stands_out_of_a_timestep() -> None:
    steps = np.array([5.0, 1.0, 3.0, 7.0])
    rises = np.zeros((1, 2, 1, 1, 4)) + steps
    assert np.allclose(errors_of(rises, [4], [10, 20]), 0)
    rises[0, 0] += [1.0, -1.0, 1.0, -1.0]
    errors = errors_of(rises, [4], [10, 20])
    expected = np.sqrt(1**2 / 2 / 4)  # steps of 2, less the mean image's half
    assert np.allclose(errors.loc[4], [expected, expected])
    with pytest.raises(ValueError, match="one timestep"):
        errors_of(rises[..., :1], [4], [10, 20])
