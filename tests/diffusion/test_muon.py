"""Muon against the singular value decomposition and a loop."""

import torch
from torch import nn

from abu.diffusion.muon import Muon, matrices_and_rest, orthogonal
from abu.diffusion.noise import normal


def test_orthogonal_matrices_keep_directions_and_even_out_singular_values() -> None:
    for shape in ((3, 6, 10), (2, 10, 6), (2, 8, 8)):
        matrices = normal(shape, "matrices", *shape)
        found = orthogonal(matrices)
        u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
        own = torch.einsum("bir,bij,brj->br", u, found, vh)
        assert own.min() > 0.3 and own.max() < 1.3
        off = found - torch.einsum("bir,br,brj->bij", u, own, vh)
        assert off.abs().max() < 1e-4
        assert torch.allclose(orthogonal(7 * matrices), found, atol=1e-5)


def test_steps_are_nesterov_momentum_of_flattened_weights() -> None:
    """Two convolutions and a matrix of equal flattened shape, against one at a time."""
    params = [
        nn.Parameter(normal(s, "p", n)) for n, s in enumerate([(4, 3, 2, 2), (4, 12), (4, 3, 4)])
    ]
    before = [p.detach().clone() for p in params]
    optimizer = Muon(params, lr=0.1, momentum=0.9)
    expected, mean = [p.clone() for p in before], [torch.zeros_like(p) for p in before]
    for step in range(3):
        for n, p in enumerate(params):
            p.grad = normal(tuple(p.shape), "gradient", step, n)
            mean[n] = 0.9 * mean[n] + 0.1 * p.grad
            move = 0.1 * p.grad + 0.9 * mean[n]
            expected[n] -= 0.1 * orthogonal(move.flatten(1)[None])[0].view_as(p)
        optimizer.step()
    for p, e in zip(params, expected):
        assert torch.allclose(p, e, atol=1e-6)
    tall = nn.Parameter(torch.zeros(8, 2))
    tall.grad = normal((8, 2), "tall")
    Muon([tall], lr=1.0, momentum=0.0).step()
    assert torch.allclose(tall, -2 * orthogonal(tall.grad[None])[0], atol=1e-6)


def test_outer_layers_and_vectors_are_left_to_others(unet) -> None:
    matrices, rest = matrices_and_rest(unet)
    names = {id(p): name for name, p in unet.named_parameters()}
    assert len(matrices) + len(rest) == len(names)
    inner = {names[id(p)] for p in matrices}
    assert any("to_k" in name for name in inner) and any("conv1" in name for name in inner)
    assert not any(part in name for name in inner for part in ("conv_in", "conv_out", "time_emb"))
    assert all(p.ndim > 1 for p in matrices)
