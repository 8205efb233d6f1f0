"""Coupling against loops over explicit Jacobians."""

import pytest
import torch

from abu.baselines.coupling import coupling, gauss_newton_matrix
from abu.data.rows import Parts
from abu.diffusion.noise import normals


def rows(name: str, n: int, draws: int, p: int = 6) -> torch.Tensor:
    return normals((2, draws, p), [(name, i) for i in range(n)])


def test_coupling_equals_loops() -> None:
    q, z, damping = rows("q", 3, 2), rows("z", 5, 4), 0.3
    every = [row for image in z.double() for step in image for row in step]
    h = sum(torch.outer(row, row) for row in every) / len(every)
    matrix = gauss_newton_matrix(z)
    assert torch.allclose(matrix.double(), h, atol=1e-6)
    assert torch.allclose(gauss_newton_matrix(Parts(lambda a, b: z[a:b], 5, 2)), matrix, atol=1e-6)
    inverse = torch.linalg.inv(h + damping * h.diagonal().mean() * torch.eye(6).double())
    found = coupling((q, z), matrix, damping)
    for a in range(3):
        for i in range(5):
            logs = []
            for t in range(2):
                for s in range(2):
                    products = [v @ inverse @ w for v in q[a, t].double() for w in z[i, s].double()]
                    logs.append(torch.stack(products).square().mean().log())
            assert torch.allclose(found[a, i], torch.stack(logs).mean().exp(), rtol=1e-4)
    parts = coupling((q, Parts(lambda a, b: z[a:b].half(), 5, 2)), matrix, damping)
    assert torch.allclose(parts, found, rtol=1e-2)
    assert torch.isfinite(coupling((0 * q, z), matrix, damping)).all()
    with pytest.raises(ValueError, match="damping is 0"):
        coupling((q, z), matrix, 0)


def test_coupling_is_the_size_of_what_one_output_does_to_another() -> None:
    """The mean over draws of a linear model's squares is the squared Frobenius norm."""
    jq, jz = normals((4, 6), [("jq",), ("jz",)])
    draw = lambda j, name: (normals((4,), [(name, k) for k in range(4000)]) @ j)[None, None]
    h = torch.eye(6)
    found = coupling((draw(jq, "v"), draw(jz, "w")), h, 1.0).item()
    exact = ((jq @ jz.T) / 2).square().sum().item()  # H + 1 mean(diag H) = 2
    assert found == pytest.approx(exact, rel=0.05)
