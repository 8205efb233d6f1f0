"""Methods whose evidence comes in parts."""

import torch

from abu.baselines.kernels import kernel
from abu.baselines.similarity import cosine, dot
from abu.data.rows import Parts
from abu.diffusion.noise import normals


def test_methods_by_parts_equal_one_matrix() -> None:
    x, q = (normals((64,), [(name, i) for i in range(n)]) for name, n in (("x", 2500), ("q", 3)))
    wide, queries = x.double(), q.double()
    ridge = 0.1 * wide.square().sum(1).mean() * torch.eye(64, dtype=torch.float64)
    inverse = torch.linalg.inv(wide.T @ wide + ridge)
    cosines = torch.cosine_similarity(queries[:, None], wide[None], dim=2)
    for images in (x, Parts(lambda first, last: x[first:last], 2500, 64)):
        scores, leverage = kernel((q, images), 0.1)
        torch.testing.assert_close(scores, queries @ inverse @ wide.T)
        torch.testing.assert_close(leverage, (wide @ inverse * wide).sum(1))
        torch.testing.assert_close(dot((q, images)), queries @ wide.T)
        torch.testing.assert_close(cosine((q, images)), cosines)
    few = Parts(lambda first, last: x[first:last], 50, 7)
    whole = kernel((q, x[:50]), 0.1)[0]
    torch.testing.assert_close(kernel((q, few), 0.1)[0], whole, rtol=0, atol=0)
