"""Answers to second order, against a quadratic written out."""

import numpy as np
import pytest
import torch

from abu.core.quick import METHODS, Quick, fewer, quick_of, terms
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


def test_the_methods_are_first_order_second_order_and_both() -> None:
    first, second, both = (QUICK.rise(0.2, orders, "mean") for orders in METHODS.values())
    np.testing.assert_allclose(first + second, both)
    np.testing.assert_allclose(second, 0.04 * CURVED.abs().double().mean(-1))


def test_answers_of_fewer_draws_are_means_over_those_alone() -> None:
    wide = normals((4, 2, 1, 5), [("fewer", q) for q in range(2)])  # [Q, N, F, C, T]
    square = normals((4, 2, 1, 5, 3), [("fewer squares", q) for q in range(2)]) ** 2
    cut = [{"linear": wide[:, part], "curved": square[:, part]} for part in (slice(3), slice(3, 4))]
    some, last = fewer(terms(cut), 5, 3)
    steps = {5: slice(None), 3: slice(None, None, 2), 2: slice(None, None, 4)}
    expected = {("cotangents", n): (wide, square[..., :n]) for n in (1, 2, 3)}
    expected |= {("timesteps", n): (wide[..., t], square[..., t, :]) for n, t in steps.items()}
    assert some.keys() == expected.keys(), "of five timesteps there is no eighth"
    for key, (linear, curved) in expected.items():
        found = some[key]
        torch.testing.assert_close(found.linear, linear.mean((3, 4)))
        torch.testing.assert_close(found.curved, curved.mean((3, 4, 5)))
    torch.testing.assert_close(last.curved, square[..., -1].mean((3, 4)))
    (whole,) = quick_of(terms(cut))
    torch.testing.assert_close(whole.curved, some["timesteps", 5].curved)
