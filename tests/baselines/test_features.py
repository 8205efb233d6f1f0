"""Sketched gradients: against a matrix, and plain autograd."""

from dataclasses import replace

import pytest
import torch

from abu.baselines.features import Features, Sketch, feature_task, gradient_features
from abu.data.images import Images
from abu.diffusion.losses import target
from abu.diffusion.noise import normals, stream


def test_sketch_is_a_sparse_random_matrix_that_keeps_inner_products() -> None:
    sizes, p = {"a": 300, "b": 200}, 64

    def of(sketch: Sketch, x: torch.Tensor) -> torch.Tensor:
        return sketch("a", x[:, :300].reshape(-1, 30, 10)) + sketch("b", x[:, 300:])

    sketch = Sketch(sizes, p, 0)
    matrix = of(sketch, torch.eye(500))
    assert torch.equal(matrix.abs().sum(1), torch.ones(500))  # one sign a coordinate
    g = torch.from_numpy(stream("g").standard_normal((3, 500))).float()
    assert torch.allclose(of(sketch, g), g @ matrix, atol=1e-5)
    pair = torch.from_numpy(stream("pair").standard_normal((2, 500))).float()
    structured = torch.outer(torch.ones(50), torch.arange(10.0)).reshape(1, 500) + pair
    for u, v in (pair, structured):
        draws = torch.stack([of(Sketch(sizes, p, s), torch.stack([u, v])) for s in range(300)])
        products = (draws[:, 0] * draws[:, 1]).sum(1)
        assert abs(products.mean() - u @ v) < 4 * products.std() / 300**0.5  # unbiased
        assert products.std() < 1.3 * (u.norm() * v.norm()) * (2 / p) ** 0.5


@pytest.fixture
def shared(denoiser) -> Features:
    sizes = {name: denoiser.unet.get_parameter(name).numel() for name in denoiser.weights}
    return Features(denoiser, Sketch(sizes, 32, 0), [100, 700], seed=0, cotangents=2)


def test_features_equal_plain_autograd(shared, images) -> None:
    unet, scheduler = shared.denoiser.unet, shared.denoiser.scheduler
    params = [unet.get_parameter(name).requires_grad_(True) for name in shared.denoiser.weights]
    x0, texts = images.latents[0, 0], images.texts[0, :2].float()
    found = gradient_features(shared, x0, texts, 70)
    for row, t in enumerate(shared.timesteps):
        step, eps = torch.tensor([t]), normals((4, 8, 8), [(0, 70, "feature", t)])
        noisy = scheduler.add_noise(x0[None], eps, step)
        output = unet(noisy, step, encoder_hidden_states=texts[row : row + 1]).sample
        residual, root = output - target(scheduler, x0[None], eps, step), 256**0.5
        v = normals((4, 8, 8), [(0, 70, "cotangent", t, k) for k in range(2)])
        values = {"loss": residual.square().mean() * root, "square": output.square().mean() * root}
        values |= {"mean": output.mean() * root}
        values |= {k: (output[0] * v[k]).sum() / root for k in range(2)}
        for what, value in values.items():
            gradient = torch.autograd.grad(value, params, retain_graph=True)
            expected = sum(
                shared.sketch(name, g[None])[0]
                for name, g in zip(shared.denoiser.weights, gradient)
            )
            own = found["random"][row, what] if isinstance(what, int) else found[what][row]
            assert torch.allclose(
                own.float(), expected, rtol=2e-3, atol=2e-3 * expected.abs().max()
            )
        assert found["losses"][row].item() == pytest.approx(residual.square().mean().item())


def test_a_feature_that_half_precision_does_not_hold_is_refused(shared, images) -> None:
    with pytest.raises(FloatingPointError, match="stored coordinates"):
        gradient_features(shared, images.latents[0, 0] * float("inf"), images.texts[0, :2], 70)


def test_a_task_makes_the_features_of_its_images(shared, images) -> None:
    """Of the first picture; timesteps meet captions in turn; with a path, one latent a timestep."""
    found = feature_task(shared, images[1:3])
    for row, i in enumerate((1, 2)):
        expected = gradient_features(
            shared, images.latents[i, 0], images.texts[i, :2], images.ids[i]
        )
        for what, values in expected.items():
            assert torch.equal(found[what][row], values)
    single = Images(images.ids, images.latents, images.texts[:, :1])
    assert not torch.equal(feature_task(shared, single[1:3])["loss"], found["loss"])
    still = images.latents[:, :1, None].expand(-1, -1, 2, -1, -1, -1)
    path = feature_task(shared, Images(images.ids, still, images.texts)[1:3], [100, 700])
    assert torch.allclose(path["loss"].float(), found["loss"].float(), atol=1e-3)
    other = feature_task(
        replace(shared, timesteps=[5]), Images(images.ids, still, images.texts)[1:3], [100, 700]
    )
    assert torch.equal(other["loss"], path["loss"])
    assert "random" not in feature_task(replace(shared, cotangents=0), images[1:3])
