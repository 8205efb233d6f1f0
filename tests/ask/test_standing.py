"""The bound above which the model does not know a picture."""

import math

import torch

from abu.ask.standing import upper_bound
from abu.diffusion.noise import normals


def test_a_further_picture_exceeds_the_bound_as_rarely_as_said() -> None:
    for n in (3, 18):
        losses = (0.3 * normals((n + 1,), [("loss", n, k) for k in range(4000)])).exp()
        above = [float(row[n] > upper_bound(row[:n], 0.1)) for row in losses]
        assert abs(sum(above) / len(above) - 0.1) < 0.02


def test_too_few_pictures_bound_nothing() -> None:
    assert upper_bound(torch.ones(0)) == upper_bound(torch.ones(1)) == math.inf
