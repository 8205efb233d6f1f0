"""TRAK and its kin against their dense formulas."""

import pytest
import torch

from abu.baselines.kernels import das, kernel, trak
from abu.diffusion.noise import stream


def features(n: int, p: int, *key) -> torch.Tensor:
    return torch.from_numpy(stream(*key).standard_normal((n, p)))


@pytest.mark.parametrize("n, p", [(7, 4), (4, 12)])  # solved in p and in n dimensions
def test_kernel_methods_equal_their_dense_formulas(n: int, p: int) -> None:
    q, x, ridge = features(3, p, "q"), features(n, p, "x"), 0.3
    lam = ridge * sum(float(row @ row) for row in x) / n
    square = sum(torch.outer(row, row) for row in x) + lam * torch.eye(p, dtype=x.dtype)
    inverse = torch.linalg.inv(square)
    expected = torch.stack([torch.stack([a @ inverse @ b for b in x]) for a in q])
    leverage = torch.stack([b @ inverse @ b for b in x])
    found, h = kernel((q, x), ridge)
    assert torch.allclose(found, expected, atol=1e-12) and torch.allclose(h, leverage, atol=1e-12)
    assert torch.allclose(trak((q, x), ridge), expected, atol=1e-12)
    losses = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    of = lambda a, i: (expected[a, i] * losses[i].sqrt() / (1 - leverage[i])) ** 2
    by_hand = torch.tensor([[of(a, i) for i in range(n)] for a in range(3)], dtype=torch.float64)
    assert torch.allclose(das((q, x), losses, ridge), by_hand, atol=1e-12)
    with pytest.raises(ValueError, match="ridge is 0"):
        kernel((q, x), 0)
