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


def test_captions_that_an_image_lacks_make_it_no_surer() -> None:
    noise = 0.3 * normal((4000, 1, 3, 10), "captions").double()
    counts = torch.tensor([1, 2, 3, 7]).repeat(1000)  # 7: more than were asked for
    for image, count in enumerate(counts.tolist()[:4]):
        noise[image::4, :, count:] = noise[image::4, :, :count].mean(2, keepdim=True)
    values, errors = reduced(noise, counts=counts)
    for image in range(4):
        error = float(values[image::4].std())
        assert float(errors[image::4].square().mean().sqrt()) == pytest.approx(error, rel=0.1)


def test_the_error_is_that_of_the_flip_that_counts() -> None:
    rises = torch.tensor([[[[1.0, 1.0]], [[5.0, 3.0]]], [[[7.0, 5.0]], [[2.0, 2.0]]]])
    values, errors = reduced(rises)
    assert values.tolist() == [4, 6] and errors.tolist() == [1, 1]
