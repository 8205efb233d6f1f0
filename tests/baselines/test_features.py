"""Sketched gradients: against a matrix, and plain autograd."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from abu.baselines.features import FUNCTIONS, Features, Sketch, feature_task, fold, gradient_feature
from abu.data.images import Images
from abu.diffusion.losses import target
from abu.diffusion.noise import normals, stream


def test_sketch_is_a_sparse_random_matrix_that_keeps_inner_products() -> None:
    sizes, p = {"a": 300, "b": 200}, 64
    sketch = Sketch(sizes, p, 0)
    matrix = torch.stack([sketch({"a": e[:300], "b": e[300:]}) for e in torch.eye(500)])
    assert torch.equal(matrix.abs().sum(1), torch.ones(500))  # one sign a coordinate
    g = torch.from_numpy(stream("g").standard_normal(500)).float()
    assert torch.allclose(
        sketch({"a": g[:300].reshape(30, 10), "b": g[300:]}), g @ matrix, atol=1e-5
    )
    smaller = fold(matrix, 16)
    assert torch.equal(smaller.abs().sum(1), torch.ones(500))
    with pytest.raises(ValueError, match="48 does not divide 64"):
        fold(matrix, 48)
    u, v = torch.from_numpy(stream("pair").standard_normal((2, 500))).float()
    of = lambda s, x: s({"a": x[:300], "b": x[300:]})
    draws = [Sketch(sizes, p, seed) for seed in range(300)]
    products = torch.stack([of(s, u) @ of(s, v) for s in draws])
    assert abs(products.mean() - u @ v) < 4 * products.std() / 300**0.5  # unbiased
    assert products.std() < 1.3 * (u.norm() * v.norm()) * (2 / p) ** 0.5


@pytest.fixture
def shared(denoiser) -> Features:
    sizes = {name: denoiser.unet.get_parameter(name).numel() for name in denoiser.weights}
    return Features(denoiser, Sketch(sizes, 32, 0), [100, 700], seed=0)


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_gradient_feature_equals_plain_autograd(shared, images, function: str) -> None:
    unet, scheduler = shared.denoiser.unet, shared.denoiser.scheduler
    params = {name: unet.get_parameter(name) for name in shared.denoiser.weights}
    x0, text = images.latents[:1, 0], images.texts[:1, 0].float()
    found, loss = gradient_feature(shared, function, x0[0], text[0], 70)
    gradients, losses = [], []
    for t in shared.timesteps:
        step, eps = torch.tensor([t]), normals((4, 8, 8), [(0, 70, "feature", t)])
        noisy = scheduler.add_noise(x0, eps, step)
        output = unet(noisy, step, encoder_hidden_states=text).sample
        residual = output - target(scheduler, x0, eps, step)
        values = {"loss": residual.square(), "square": output.square(), "mean": output}
        gradients.append(torch.autograd.grad(values[function].mean(), list(params.values())))
        losses.append(residual.square().mean().item())
    mean = {name: (a + b) / 2 for name, a, b in zip(params, *gradients)}
    assert torch.allclose(found, shared.sketch(mean), atol=1e-6)
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_functions_that_are_not_known_are_refused(shared, images) -> None:
    with pytest.raises(ValueError, match="output function is 'logit'"):
        gradient_feature(shared, "logit", images.latents[0, 0], images.texts[0, 0], 70)


def test_a_task_makes_the_features_of_its_images(shared, images) -> None:
    """Of the first picture and caption of each; with a path, of one latent a timestep."""
    found = feature_task(shared, "loss", images[1:3])
    for row, i in enumerate((1, 2)):
        given = images.latents[i, 0], images.texts[i, 0], images.ids[i]
        feature, loss = gradient_feature(shared, "loss", *given)
        assert torch.equal(found["features"][row], feature)
        assert found["losses"][row] == pytest.approx(loss)
    still = images.latents[:, :1, None].expand(-1, -1, 2, -1, -1, -1)
    path = feature_task(shared, "loss", Images(images.ids, still, images.texts)[1:3], [100, 700])
    assert torch.allclose(path["features"], found["features"], atol=1e-7)
    other = feature_task(replace(shared, timesteps=[5]), "loss", images[1:3], [100, 700])
    assert torch.equal(other["features"], found["features"])
