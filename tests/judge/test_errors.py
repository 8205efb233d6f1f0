"""Standard errors of means, against what repeated draws show."""

import pytest
import torch

from abu.diffusion.noise import normal
from abu.judge.errors import reduced, spread


def test_the_spread_of_noise_is_seen_below_a_slow_change() -> None:
    noise = 0.3 * normal((4000, 2, 10), "noise").double()
    trend = torch.linspace(0, 1, 10).double()
    error = float(noise.mean((-2, -1)).std())
    found = [float(spread(noise + slope * trend).square().mean().sqrt()) for slope in (0, 1)]
    assert found == pytest.approx([error, error], rel=0.1) and found[0] <= found[1]
    assert spread(noise[..., :1]).isnan().all()


def test_the_error_is_that_of_the_flip_that_counts() -> None:
    rises = torch.tensor([[[[1.0, 1.0]], [[5.0, 3.0]]], [[[7.0, 5.0]], [[2.0, 2.0]]]])
    values, errors = reduced(rises)
    assert values.tolist() == [4, 6] and errors.tolist() == [1, 1]
