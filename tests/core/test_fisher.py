"""Fisher information and the query's gradient: against torch.func and a finite difference."""

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from helpers import SMALL, TIMESTEPS
from torch.func import functional_call

from abu.core.fisher import draw_batch, fisher_diagonal, query_gradient
from abu.core.unlearn import moved, norm
from abu.data.images import Images
from abu.data.readers import Tensors
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.losses import denoising_loss
from abu.diffusion.unet import select_weights


def test_fisher_is_the_same_in_any_batch_and_selection(denoiser, images) -> None:
    fast = fisher_diagonal(denoiser, images, draws=2)
    other = fisher_diagonal(replace(denoiser, batch_size=3), images, draws=2)
    weights = select_weights(denoiser.unet, "all")
    everything = fisher_diagonal(replace(denoiser, weights=weights, batch_size=64), images, 2)
    for name in denoiser.weights:
        assert fast[name].dtype == torch.float64 and fast[name].max() > 0
        torch.testing.assert_close(fast[name], everything[name], rtol=1e-4, atol=1e-12)
        torch.testing.assert_close(fast[name], other[name], rtol=1e-4, atol=1e-12)


def one_at_a_time(denoiser: Denoiser, images: Images, draws: int) -> Tensors:
    """Fisher's diagonal by torch.func, one example at a time."""
    unet, scheduler = denoiser.unet, denoiser.scheduler
    total = dict.fromkeys(denoiser.weights, 0.0)
    params = {name: unet.get_parameter(name).detach() for name in denoiser.weights}
    for row in [(i, k) for i in range(len(images)) for k in range(draws)]:
        _, batch = draw_batch(scheduler, images, [row], 0)

        def loss(p: Tensors, batch=batch):
            model = lambda *args, **kwargs: functional_call(unet, p, args, kwargs)
            return denoising_loss(model, scheduler, *batch).sum()

        for name, g in torch.func.grad(loss)(params).items():
            total[name] += g.double().square()
    return {name: value / len(images) / draws for name, value in total.items()}


@pytest.mark.parametrize("selection", ["cross-attn-kv", "all"])
def test_fisher_equals_torch_func(scheduler, images, selection: str) -> None:
    torch.manual_seed(0)
    plain = UNet2DConditionModel(**SMALL).eval().requires_grad_(False)  # nobody shared its text
    denoiser = Denoiser(plain, scheduler, select_weights(plain, selection), batch_size=3)
    expected = one_at_a_time(denoiser, images, 1)
    for name, found in fisher_diagonal(denoiser, images, 1).items():
        assert found.dtype == torch.float64
        atol = 1e-6 * float(expected[name].max())
        torch.testing.assert_close(found, expected[name], rtol=1e-3, atol=atol)


def test_query_gradient_equals_finite_difference(denoiser, images) -> None:
    query = images.latents[0, 0], images.texts[0, 0], (0,), TIMESTEPS, 3
    loss, gradient = query_gradient(denoiser, *query)
    step = {name: 1e-2 * g / norm(gradient) for name, g in gradient.items()}
    with moved(denoiser.unet, step):
        up = query_gradient(denoiser, *query)[0]
    with moved(denoiser.unet, {name: -s for name, s in step.items()}):
        down = query_gradient(denoiser, *query)[0]
    assert (up - down) / 2 == pytest.approx(1e-2 * norm(gradient), rel=2e-2)
    assert loss == pytest.approx((up + down) / 2, rel=1e-3)
