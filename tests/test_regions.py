"""Regions: their weights, the loss they restrict, and what they choose."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_math import TIMESTEPS, data, scheduler, unet  # noqa: F401

from abu.core.fisher import query_gradient
from abu.core.regions import box, mask, read_region, regions_of, side_by_side
from abu.diffusion.losses import denoising_loss
from abu.diffusion.noise import normals
from abu.diffusion.unet import select_weights
from abu.judge.ranking import choice


def test_a_box_covers_its_share_of_every_place() -> None:
    assert torch.equal(box([0, 0, 0.5, 1], (2, 4)), torch.tensor([[1.0, 1, 0, 0]] * 2))
    torch.testing.assert_close(box([0.3, 0.25, 0.4, 1], (2, 4)), torch.tensor([[0, 0.2, 0, 0], [0, 0.4, 0, 0]]))
    found = box([0.13, 0.2, 0.81, 0.77], (8, 8))
    assert found.sum() == pytest.approx(64 * 0.68 * 0.57, rel=1e-5) and found.max() == 1
    fine = box([0.13, 0.2, 0.81, 0.77], (800, 800)).reshape(8, 100, 8, 100).mean((1, 3))
    torch.testing.assert_close(found, fine, rtol=1e-4, atol=1e-4)


def test_a_mask_is_averaged_on_the_grid(tmp_path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:4, :2] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    assert torch.equal(mask(tmp_path / "mask.png", (2, 2)), torch.tensor([[0.5, 0], [0, 0]]))
    assert torch.equal(read_region(str(tmp_path / "mask.png"), (4, 4)), box([0, 0, 0.25, 0.5], (4, 4)))


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
    with pytest.raises(KeyError, match=r"regions are asked for \['skulls'\]; the queries are \['skull'\]"):
        regions_of({"skulls": [0, 0, 1, 1]}, ["skull"], (2, 2))
    assert regions_of({}, ["skull"], (2, 2)) == (None,)


def test_the_loss_of_a_region_is_that_of_its_places(unet, scheduler, data) -> None:  # noqa: F811
    latents, texts = data
    x0, eps, t, text = latents[:3, 0].float(), normals((4, 8, 8), [(i,) for i in range(3)]), torch.tensor([10, 400, 900]), texts[:3, 0].float()
    with torch.no_grad():
        whole, left, right = (denoising_loss(unet, scheduler, x0, eps, t, text, r) for r in (None, box([0, 0, 0.5, 1], (8, 8)), box([0.5, 0, 1, 1], (8, 8))))
        wanted = eps if scheduler.config.prediction_type == "epsilon" else scheduler.get_velocity(x0, eps, t)
        errors = (unet(scheduler.add_noise(x0, eps, t), t, encoder_hidden_states=text).sample - wanted).square()
        everywhere = denoising_loss(unet, scheduler, x0, eps, t, text, torch.full((8, 8), 0.3))
    torch.testing.assert_close(left, errors[..., :4].mean((1, 2, 3)))
    torch.testing.assert_close((left + right) / 2, whole)
    torch.testing.assert_close(everywhere, whole)  # weights have no unit


def test_the_gradients_of_two_halves_make_that_of_the_whole(unet, scheduler, data) -> None:  # noqa: F811
    latents, texts = data
    names = select_weights(unet, "cross-attn-kv")
    ask = lambda region: query_gradient(unet, scheduler, names, latents[0, 0], texts[0, 0], (0,), TIMESTEPS, 2, 4, region)[1]
    whole, left, right = ask(None), ask(box([0, 0, 0.5, 1], (8, 8))), ask(box([0.5, 0, 1, 1], (8, 8)))
    for name in names:
        torch.testing.assert_close((left[name] + right[name]) / 2, whole[name], rtol=1e-3, atol=1e-7)
    assert max((left[name] - right[name]).abs().max() for name in names) > 1e-6


def test_what_a_box_chooses_on_a_case_done_by_hand() -> None:
    scores = np.array([5.0, 4, 3, 2, 1])
    boxed, other = np.array([1, 0, 0, 1, 0], bool), np.array([0, 1, 0, 0, 1], bool)
    assert choice(scores, boxed, other) == 3 / 4 and choice(-scores, boxed, other) == 1 / 4
    for wrong in (boxed, np.zeros(5, bool)):
        with pytest.raises(ValueError, match="images of the boxed part"):
            choice(scores, boxed, wrong)
    left, right = torch.zeros(1, 2, 4), torch.ones(1, 2, 4)
    assert torch.equal(side_by_side(left, right)[0, 0], torch.tensor([0.0, 0, 1, 1]))
