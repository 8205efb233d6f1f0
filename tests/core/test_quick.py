"""Answers to second order, against a quadratic written out."""

import numpy as np
import pytest
import torch

from abu.core.quick import Quick
from abu.diffusion.noise import normals

LINEAR, CURVED = (normals((2, 4, 2), [("quick", n)])[0] for n in range(2))  # [Q, N, F]
QUICK = Quick(LINEAR, CURVED.abs())


@pytest.mark.parametrize("flips", ["max", "mean"])
@pytest.mark.parametrize("length", [0.3, np.array([0.1, 0.3])])
def test_a_rise_is_the_quadratic_of_the_length(length, flips: str) -> None:
    found = QUICK.rise(length, flips=flips)
    assert found.shape == (2, 4) and found.dtype == np.float64
    for q, r in enumerate(np.broadcast_to(length, 2)):
        for i in range(4):
            both = [r * float(LINEAR[q, i, f]) + r**2 * abs(float(CURVED[q, i, f])) for f in (0, 1)]
            assert found[q, i] == pytest.approx({"max": max, "mean": np.mean}[flips](both))


def test_orders_add_up_and_queries_stand_alone() -> None:
    one = Quick(LINEAR[..., :1], CURVED[..., :1])  # of one flip nothing is reduced
    parts = sum(one.rise(0.2, [order]) for order in (1, 2))
    np.testing.assert_allclose(one.rise(0.2), parts)
    np.testing.assert_array_equal(one.of(1).rise(0.2), one.rise(0.2)[1:])
    assert torch.equal(one.of(0).linear, LINEAR[:1, :, :1])
