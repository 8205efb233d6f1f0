"""Regions: their weights, and the loss that they restrict."""

import numpy as np
import pytest
import torch
from helpers import TIMESTEPS
from PIL import Image

from abu.core.fisher import query_gradient
from abu.core.regions import box, mask, regions_of, side_by_side
from abu.diffusion.losses import denoising_loss
from abu.diffusion.noise import normals

LEFT, RIGHT = box([0, 0, 0.5, 1], (8, 8)), box([0.5, 0, 1, 1], (8, 8))


def test_a_box_covers_its_share_of_every_place() -> None:
    assert torch.equal(box([0, 0, 0.5, 1], (2, 4)), torch.tensor([[1.0, 1, 0, 0]] * 2))
    expected = torch.tensor([[0, 0.2, 0, 0], [0, 0.4, 0, 0]])
    torch.testing.assert_close(box([0.3, 0.25, 0.4, 1], (2, 4)), expected)
    found = box([0.13, 0.2, 0.81, 0.77], (8, 8))
    assert found.sum() == pytest.approx(64 * 0.68 * 0.57, rel=1e-5) and found.max() == 1
    fine = box([0.13, 0.2, 0.81, 0.77], (800, 800)).reshape(8, 100, 8, 100).mean((1, 3))
    torch.testing.assert_close(found, fine, rtol=1e-4, atol=1e-4)


def test_a_mask_is_averaged_on_the_grid(tmp_path) -> None:
    path, pixels = tmp_path / "mask.png", np.zeros((8, 8), np.uint8)
    pixels[:4, :2] = 255
    Image.fromarray(pixels).save(path)
    assert torch.equal(mask(path, (2, 2)), torch.tensor([[0.5, 0], [0, 0]]))
    [region] = regions_of({"skull": str(path)}, ["skull"], (4, 4))
    assert torch.equal(region, box([0, 0, 0.25, 0.5], (4, 4)))


def test_regions_that_are_wrong(tmp_path) -> None:
    for edges in ([0.5, 0, 0.5, 1], [0, 0, 1.2, 1], [0, 0, 1], [0.6, 0, 0.2, 1], [0, 0.9, 1, 0.1]):
        with pytest.raises(ValueError, match=r"expected \[left, top, right, bottom\] within 0..1"):
            box(edges, (4, 4))
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match="all black: the region is empty"):
        mask(tmp_path / "black.png", (2, 2))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="not a readable mask"):
        mask(tmp_path / "text.png", (2, 2))
    with pytest.raises(FileNotFoundError, match="none.png"):
        mask(tmp_path / "none.png", (2, 2))
    message = r"regions are asked for \['skulls'\]; the queries are \['skull'\]"
    with pytest.raises(KeyError, match=message):
        regions_of({"skulls": [0, 0, 1, 1]}, ["skull"], (2, 2))
    assert regions_of({}, ["skull"], (2, 2)) == (None,)


def test_the_loss_of_a_region_is_that_of_its_places(unet, scheduler, images) -> None:
    x0, text = images.latents[:3, 0].float(), images.texts[:3, 0].float()
    eps, t = normals((4, 8, 8), [(i,) for i in range(3)]), torch.tensor([10, 400, 900])
    of = lambda region: denoising_loss(unet, scheduler, x0, eps, t, text, region)
    with torch.no_grad():
        whole, left, right = of(None), of(LEFT), of(RIGHT)
        everywhere = of(torch.full((8, 8), 0.3))
        noise = scheduler.config.prediction_type == "epsilon"
        wanted = eps if noise else scheduler.get_velocity(x0, eps, t)
        noisy = scheduler.add_noise(x0, eps, t)
        errors = (unet(noisy, t, encoder_hidden_states=text).sample - wanted).square()
    torch.testing.assert_close(left, errors[..., :4].mean((1, 2, 3)))
    torch.testing.assert_close((left + right) / 2, whole)
    torch.testing.assert_close(everywhere, whole)  # weights have no unit


def test_the_gradients_of_two_halves_make_that_of_the_whole(denoiser, images) -> None:
    query = images.latents[0, 0], images.texts[0, 0], (0,), TIMESTEPS, 2
    whole, left, right = (query_gradient(denoiser, *query, r)[1] for r in (None, LEFT, RIGHT))
    for name, gradient in whole.items():
        both = (left[name] + right[name]) / 2
        torch.testing.assert_close(both, gradient, rtol=1e-3, atol=1e-7)
    assert max((left[name] - right[name]).abs().max() for name in whole) > 1e-6


def test_halves_of_two_pictures_stand_side_by_side() -> None:
    found = side_by_side(torch.zeros(1, 2, 4), torch.ones(1, 2, 4))
    assert torch.equal(found[0, 0], torch.tensor([0.0, 0, 1, 1]))
