"""One pass for every query: against forward mode in float64, and a finite step."""

import copy
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from helpers import IDS, SMALL, TIMESTEPS
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from abu.core.influence import forward_mode, gauss_newton, means
from abu.core.unlearn import moved, over_flips
from abu.data.images import Images
from abu.data.readers import Tensors
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid
from abu.diffusion.losses import loss_table, target
from abu.diffusion.noise import normal, normals

SEED = 3


def exact(denoiser: Denoiser, images: Images, deltas: Tensors, place: tuple) -> tuple[float, float]:
    """Directional derivative of one entry's loss, and ``|J Delta|^2 / D``, by forward mode in
    float64; ``place``: query, image, flip, caption, number of the timestep."""
    (q, i, f, c, s), scheduler = place, denoiser.scheduler
    model, t = copy.deepcopy(denoiser.unet).double(), torch.tensor([TIMESTEPS[s]])
    x0 = images.latents[i, f][None].double()
    eps = normal((4, 8, 8), SEED, "loss", IDS[i], c, TIMESTEPS[s])[None].double()
    params = {name: model.get_parameter(name).detach() for name in deltas}
    given = scheduler.add_noise(x0, eps, t), t, images.texts[i, c][None].double()
    output = lambda p: functional_call(model, p, given).sample
    with sdpa_kernel(SDPBackend.MATH):  # the others know no forward mode
        move = {name: d[q].double() for name, d in deltas.items()}
        value, tangent = jvp(output, (params,), (move,))
    residual = value - target(scheduler, x0, eps, t)
    return float((2 * residual * tangent).mean()), float(tangent.square().mean())


def test_both_terms_equal_forward_mode(denoiser, images, moves) -> None:
    denoiser, grid = replace(denoiser, batch_size=7), Grid(TIMESTEPS, SEED)
    linear, curved = gauss_newton(replace(denoiser, batch_size=64), moves, images, grid, 200)
    assert linear.shape == (2, 5, 2, 2, 3) and curved.shape == (2, 5, 2, 2, 3, 200)
    errors = []  # in standard errors
    for place in [(0, 0, 0, 0, 0), (1, 2, 1, 1, 2), (0, 4, 1, 0, 1), (1, 3, 0, 1, 0)]:
        derivative, square = exact(denoiser, images, moves, place)
        assert linear[place] == pytest.approx(derivative, rel=1e-4, abs=1e-7)
        errors.append((curved[place].mean() / square - 1) / (2 / 200) ** 0.5)
    assert torch.tensor(errors).abs().max() < 3.5
    # an estimate, not the exact number by another way
    assert torch.tensor(errors).abs().max() > 1e-3
    one = {name: move[1] for name, move in moves.items()}
    derivatives, squares = forward_mode(denoiser, one, images, grid)
    derivative, square = exact(denoiser, images, moves, (1, 2, 1, 1, 2))
    assert derivatives[2, 1, 1, 2] == pytest.approx(derivative, rel=1e-4)
    assert squares[2, 1, 1, 2] == pytest.approx(square, rel=1e-4)
    torch.testing.assert_close(linear[1], derivatives, rtol=1e-3, atol=1e-6)
    few = gauss_newton(denoiser, moves, images[3:], grid, 2)
    torch.testing.assert_close(few[1], curved[:, 3:, ..., :2], rtol=1e-3, atol=1e-7)


def test_spread_captions_are_entries_of_the_whole_grid(denoiser, images, moves) -> None:
    whole, one = Grid(TIMESTEPS, SEED), {name: move[1] for name, move in moves.items()}
    turns = [0, 1, 0], range(3)  # two captions, three timesteps
    asked = denoiser, moves, images
    pairs = zip(
        gauss_newton(*asked, replace(whole, spread=True), 2), gauss_newton(*asked, whole, 2)
    )
    exact = [forward_mode(denoiser, one, images, replace(whole, spread=s)) for s in (True, False)]
    for spread, every in (*pairs, *((t[None] for t in both) for both in zip(*exact))):
        assert spread.shape[:5] == (len(spread), 5, 2, 1, 3)
        expected = every[:, :, :, turns[0], turns[1]]
        torch.testing.assert_close(spread[:, :, :, 0], expected, rtol=1e-3, atol=1e-6)


def test_of_a_fitted_image_only_gauss_newton_sees_the_finite_step(
    denoiser, images, grid, moves, monkeypatch
) -> None:
    """Where the model predicts its target exactly, first order is blind and the second term tells
    the rise of the loss."""
    torch.manual_seed(0)
    fitted = UNet2DConditionModel(**SMALL).eval().requires_grad_(False)  # as the unet before a move
    one, current = {name: 0.3 * move[:1] for name, move in moves.items()}, {}

    def answer(scheduler, x0, eps, t):
        text = current["text"].repeat_interleave(len(x0) // len(current["text"]), 0)
        return fitted(scheduler.add_noise(x0, eps, t), t, encoder_hidden_states=text).sample

    remember = denoiser.unet.register_forward_pre_hook(
        lambda model, args, kwargs: current.update(text=kwargs["encoder_hidden_states"]),
        with_kwargs=True,
    )
    monkeypatch.setattr("abu.diffusion.losses.target", answer)
    monkeypatch.setattr("abu.core.influence.target", answer)
    try:
        linear, curved = gauss_newton(replace(denoiser, batch_size=64), one, images, grid, 100)
        with moved(denoiser.unet, {name: move[0] for name, move in one.items()}):
            losses = loss_table(denoiser, images, grid).double()
    finally:
        remember.remove()
    rises = over_flips(losses.mean((2, 3)), "mean")
    [(first, second)] = means([(linear[:, :2], curved[:, :2]), (linear[:, 2:], curved[:, 2:])])
    assert over_flips(first, "mean").abs().max() < 1e-3 * rises.min()
    estimate = over_flips(first + second, "mean")[0].double()
    torch.testing.assert_close(estimate, rises, rtol=0.15, atol=0)


def test_means_by_parts_and_choices_equal_those_of_the_whole() -> None:
    linear = normals((3, 2, 2, 4), [("linear", q) for q in range(2)])
    curved = normals((3, 2, 2, 4, 3), [("curved", q) for q in range(2)])
    every, odd, last = slice(None), slice(None, None, 2), slice(-1, None)
    parts = ((linear[:, part], curved[:, part]) for part in (slice(2), slice(2, None)))
    found = means(parts, (every, every), (odd, every), (every, last))
    assert found.shape == (3, 2, 2, 3, 2) and found.dtype == torch.float32
    expected = [
        (linear.mean((3, 4)), curved.mean((3, 4, 5))),
        (linear[..., ::2].mean((3, 4)), curved[..., ::2, :].mean((3, 4, 5))),
        (linear.mean((3, 4)), curved[..., -1].mean((3, 4))),
    ]
    for row, terms in zip(found, expected):
        torch.testing.assert_close(row, torch.stack(terms))
    torch.testing.assert_close(means([(linear, curved)]), found[:1])
