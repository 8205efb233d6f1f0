"""Unlearning: against a closed form, and the loss that it should raise."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import TIMESTEPS

from abu.core.curvature import precondition
from abu.core.fisher import fisher_diagonal, query_gradient
from abu.core.unlearn import Newton, moved, norm, scale_to, score, unlearn


def test_newton_step_solves_the_quadratic() -> None:
    """On L = -g.theta + n/2 theta F theta the step of eq. 5 is the exact optimum, F^-1 g / n."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2, bias=False).double()
    start = model.weight.detach().clone()
    g, f = torch.randn(2, 3).double(), torch.rand(2, 3).double() + 0.1
    by = lambda damping: partial(precondition, "diagonal", cached={"weight": f}, damping=damping)
    never = lambda: pytest.fail("the loss is not asked for")
    newton = Newton("diagonal", 0.0, draws=1, alpha=1.0, n=7)
    delta = unlearn(model, lambda *_: {"weight": g}, by(0.0), newton, never)["weight"]
    torch.testing.assert_close(7 * f * delta, g)
    assert torch.equal(model.weight, start)
    newton = Newton("diagonal", 0.5, draws=1, steps=3, relative_norm=0.2)
    half = unlearn(model, lambda *_: {"weight": g}, by(0.5), newton, never)
    assert norm(half) == pytest.approx(0.2 * norm({"w": start}))


def test_unlearn_raises_the_loss_of_its_query(denoiser, images) -> None:
    unet, fisher = denoiser.unet, fisher_diagonal(denoiser, images, draws=2)
    query = images.latents[1, 0], images.texts[1, 0], (0,), TIMESTEPS, 4
    ask = lambda model: query_gradient(replace(denoiser, unet=model, batch_size=64), *query)
    inverse = partial(precondition, "diagonal", cached=fisher, damping=0.1)
    newton = Newton("diagonal", 0.1, draws=4, steps=2, relative_norm=0.3)
    gradient, loss = lambda model, step: ask(model)[1], lambda: ask(unet)[0]
    delta = unlearn(unet, gradient, inverse, newton, loss)
    start = loss()
    with moved(unet, delta):
        assert loss() > start
    assert loss() == start
    for steps, rise in ((1, 0.002), (2, 0.001)):
        newton = Newton("diagonal", 0.1, draws=4, steps=steps, rise=rise)
        with moved(unet, unlearn(unet, gradient, inverse, newton, loss)):
            assert loss() / start - 1 == pytest.approx(rise, rel=0.03)
    with pytest.raises(
        ValueError, match="as long as the weights and longer raises .* was asked for"
    ):
        unlearn(unet, gradient, inverse, replace(newton, rise=1e6), loss)


@pytest.mark.parametrize("power", [1, 2, 4])
@pytest.mark.parametrize("root", [1e-5, 3e-4, 0.1, 0.9])
def test_a_scale_is_found_within_two_per_cent(root: float, power: int) -> None:
    """Also where it is far below the first one that is tried, a thousandth of the whole."""
    loss = lambda scale: 1 + (scale / (7 * root)) ** power
    assert scale_to(2.0, loss, 7.0) == pytest.approx(7 * root, rel=0.02)


def test_steps_without_a_length_or_with_two_are_refused() -> None:
    newton = partial(Newton, "diagonal", 0.1, 1)
    for lengths in ({}, {"alpha": 1.0, "relative_norm": 0.1}):
        with pytest.raises(ValueError, match="one of alpha, relative_norm and rise"):
            newton(**lengths)
    for lengths in ({"alpha": 0.0, "n": 5}, {"relative_norm": -0.1}, {"rise": 0.0}):
        with pytest.raises(ValueError, match="expected a number above 0"):
            newton(**lengths)


def test_score_takes_the_larger_of_image_and_mirror_image() -> None:
    before = torch.zeros(2, 2, 1, 2)
    rises = torch.tensor([[1.0, 3.0, 0.0, 1.0], [0.0, 0.0, 4.0, 4.0]])
    after = rises.reshape(2, 2, 1, 2)
    assert score(before, after).tolist() == [2.0, 4.0]
    assert score(before, after, "mean").tolist() == [1.25, 2.0]
    with pytest.raises(ValueError, match="differ in shape"):
        score(before, after[:1])
