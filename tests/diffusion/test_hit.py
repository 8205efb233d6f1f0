"""Hits against a loop."""

import numpy as np
import torch

from abu.diffusion.hit import hit_rate, nearest, spread
from abu.diffusion.noise import normal


def test_nearest_is_the_nearest() -> None:
    drawn, pictures = normal((5, 3, 4, 4), "drawn"), normal((7, 3, 4, 4), "pictures").numpy()
    expected = [min(range(7), key=lambda n: ((d.numpy() - pictures[n]) ** 2).sum()) for d in drawn]
    assert nearest(drawn, iter(pictures)).tolist() == expected
    assert nearest(torch.from_numpy(pictures), pictures).tolist() == list(range(7))


def test_the_rate_has_an_interval_over_concepts() -> None:
    hits = np.array([[True] * 8 + [False] * 2, [True] * 6 + [False] * 4])
    rate = hit_rate(hits)
    assert rate["mean"] == 0.7 and 0.3 < rate["low"] < 0.7 < rate["high"] < 1
    assert hit_rate(np.ones((2, 4), bool)) == {"mean": 1.0, "low": 1.0, "high": 1.0}


def test_spread_takes_different_values_in_order() -> None:
    assert spread(["b", "a", "b", "", "c", "d"], 2) == ["b", "c"]
    assert spread(["b", "a"], 5) == ["b", "a"]
