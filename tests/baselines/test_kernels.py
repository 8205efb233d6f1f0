"""TRAK and its kin against their dense formulas."""

import pytest
import torch
from sklearn.linear_model import Ridge

from abu.baselines.kernels import das, kernel, ridge_regression, trak
from abu.data.rows import Parts
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


@pytest.mark.parametrize("n", [5, 20])
def test_ridge_regression_mixes_a_query_from_images_as_scikit_learn_does(n: int) -> None:
    draw = lambda name, count: torch.from_numpy(stream(name, n).standard_normal((count, 2, 2, 3)))
    queries, images = draw("queries", 3), draw("images", n)
    parts = Parts(lambda first, last: images[first:last], n, 2)
    lam = 0.3 * images.flatten(1).square().sum(1).mean().item()
    fitted = Ridge(alpha=lam, fit_intercept=False).fit(images.flatten(1).T, queries.flatten(1).T)
    found = ridge_regression((queries, parts), 0.3)
    torch.testing.assert_close(found, torch.from_numpy(fitted.coef_))
