"""Coupling against loops over explicit Jacobians."""

import pytest
import torch

from abu.baselines.coupling import (
    ASKED,
    among_images,
    coupling,
    coupling_ridge,
    damped_factor,
    explain_away,
    gauss_newton_matrix,
)
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
    factor = damped_factor(matrix, damping)
    found = coupling((q, z), factor)
    for a in range(3):
        for i in range(5):
            logs = []
            for t in range(2):
                for s in range(2):
                    products = [v @ inverse @ w for v in q[a, t].double() for w in z[i, s].double()]
                    logs.append(torch.stack(products).square().mean().log())
            assert torch.allclose(found[a, i], torch.stack(logs).mean().exp(), rtol=1e-4)
    parts = coupling((q, Parts(lambda a, b: z[a:b].half(), 5, 2)), factor)
    assert torch.allclose(parts, found, rtol=1e-2)
    assert torch.isfinite(coupling((0 * q, z), factor)).all()
    with pytest.raises(ValueError, match="damping is 0"):
        damped_factor(matrix, 0)


def test_coupling_is_the_size_of_what_one_output_does_to_another() -> None:
    """The mean over draws of a linear model's squares is the squared Frobenius norm."""
    jq, jz = normals((4, 6), [("jq",), ("jz",)])
    draw = lambda j, name: (normals((4,), [(name, k) for k in range(4000)]) @ j)[None, None]
    h = torch.eye(6)
    found = coupling((draw(jq, "v"), draw(jz, "w")), damped_factor(h, 1.0)).item()
    exact = ((jq @ jz.T) / 2).square().sum().item()  # H + 1 mean(diag H) = 2
    assert found == pytest.approx(exact, rel=0.05)


def test_of_images_that_are_alike_one_explains_the_others_away() -> None:
    q, z, damping, ridge = rows("q", 2, 2), rows("z", 4, 3), 0.5, 0.2
    factor = damped_factor(gauss_newton_matrix(z), damping)
    among = among_images(Parts(lambda a, b: z[a:b], 4, 3), factor)
    expected = [coupling((z[i : i + 1, :, :ASKED], z), factor)[0] for i in range(4)]
    torch.testing.assert_close(among, torch.stack(expected))
    inverse = torch.linalg.inv(among + ridge * among.diagonal().mean() * torch.eye(4).double())
    plain = coupling((q, z), factor)
    found = explain_away(plain, among, ridge)
    torch.testing.assert_close(found, plain @ inverse)
    by = {damping: plain}, {damping: among}
    as_method = coupling_ridge(*(of.__getitem__ for of in by), damping, ridge)
    torch.testing.assert_close(as_method, found)
    same = explain_away(plain, among, 1e9)
    torch.testing.assert_close(same / same.sum(), plain / plain.sum())
    alone, twins = (  # each of the twins takes a share, as if they were one image
        explain_away(coupling((q, some), factor), among_images(some, factor), 1e-3)
        for some in (z[:3], z[[0, 0, 1, 2]])
    )
    assert torch.allclose(twins[:, 0], twins[:, 1])
    assert torch.allclose(twins[:, :2].sum(1), alone[:, 0], rtol=0.05)
    with pytest.raises(ValueError, match="ridge is 0"):
        explain_away(plain, among, 0)


def test_more_images_than_can_be_asked_about_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="coupling-ridge asks each of 1001 images"):
        among_images(torch.zeros(1001, 1, 1, 1), torch.eye(1))
