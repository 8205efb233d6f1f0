"""Similarities against loops."""

import pytest
import torch

from abu.baselines.similarity import chance, cosine, distance, dot
from abu.diffusion.noise import stream


def test_similarities_equal_loops() -> None:
    q, x = (torch.from_numpy(stream(n).standard_normal((i, 6))) for n, i in (("q", 2), ("x", 5)))
    for a in range(2):
        for b in range(5):
            far = float(((q[a] - x[b]) ** 2).sum().sqrt())
            assert distance((q, x))[a, b] == pytest.approx(-far)
            assert dot((q, x))[a, b] == pytest.approx(float((q[a] * x[b]).sum()))
            near = float(torch.cosine_similarity(q[a], x[b], 0))
            assert cosine((q, x))[a, b] == pytest.approx(near)
    several = torch.stack([x, x.flip(0)], 1)
    nearest = torch.maximum(cosine((q, x)), cosine((q, x.flip(0))))
    assert torch.equal(cosine((q, several)), nearest)
    assert torch.equal(chance(["a", "b"], [7, 9, 11], 0)[1:, 1:], chance(["b"], [9, 11], 0))
