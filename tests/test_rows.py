"""Arrays that stay on disk look like the tensors that they hold."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from test_math import IDS, TIMESTEPS, data, scheduler, unet  # noqa: F401

from abu.baselines.kernels import kernel
from abu.baselines.similarity import cosine, distance, dot
from abu.data.rows import Parts, Rows, Stored, column, in_parts, some, stack
from abu.diffusion.losses import loss_table
from abu.diffusion.noise import normals


def stored(path: Path, values: torch.Tensor, dtype: str = "float32") -> Rows:
    np.save(path, values.numpy().astype(dtype))
    return Rows(Stored(path))


@pytest.fixture
def two(tmp_path) -> tuple[Rows, torch.Tensor]:
    """Rows of two files, in another order than theirs, and the tensor that they stand for."""
    first, second = normals((3, 2, 4), [("a", i) for i in range(5)]), normals((2, 2, 4), [("b", i) for i in range(4)]).half()
    lazy = stack(stored(tmp_path / "a.npy", first)[[4, 0, 2]], stored(tmp_path / "b.npy", second, "float16")[1:])
    return lazy, torch.cat([first[[4, 0, 2], :2], second[1:].float()])


def test_rows_read_as_the_tensor_does(two) -> None:
    lazy, values = two
    assert lazy.shape == values.shape and len(lazy) == 6 and lazy.shape[2:] == (2, 4)
    for index in [(2, 1), (-1, 0), (slice(None), 0), (slice(1, 5, 2), 1), ([5, 0, 0], 1), (torch.tensor([3, 1]), torch.tensor([0, 1])), ([1, 2], -1)]:
        assert torch.equal(lazy[index], values[index]), index
    for rows in [slice(2, None), slice(0, 0), [1, 1, 3], torch.tensor([5])]:
        chosen = lazy[rows]
        assert isinstance(chosen, Rows) and chosen.shape == values[rows].shape
        assert torch.equal(chosen[:, 1], values[rows][:, 1])
    assert torch.equal(lazy[1:5, :1][[3, 0], 0], values[1:5, :1][[3, 0], 0]) and lazy[1:5, :1].shape[1] == 1
    assert torch.equal(torch.cat(list(column(lazy, 1))), values[:, 1])


def test_rows_refuse_what_they_cannot_read(tmp_path, two) -> None:
    lazy, _ = two
    with pytest.raises(IndexError, match="column 2 of 2"):
        lazy[0, 2]
    with pytest.raises(IndexError):
        lazy[6, 0]
    with pytest.raises(IndexError, match="columns from the first"):
        lazy[:, 1:]
    with pytest.raises(IndexError, match="chosen by a slice or a list"):
        lazy[0]
    with pytest.raises(ValueError, match=r"rows of .*a.npy are \(2, 4\), others \[\(3, 3\)\]"):
        stack(lazy, stored(tmp_path / "c.npy", torch.zeros(2, 2, 3, 3)))


def test_workers_get_a_path_and_not_the_array(tmp_path) -> None:
    values = normals((2, 100), [(i,) for i in range(1000)])
    lazy = stored(tmp_path / "x.npy", values)[10:]
    sent = pickle.dumps(lazy)  # as Ray sends it
    assert len(sent) < 20_000 < values.nbytes
    assert torch.equal(pickle.loads(sent)[:, 1], values[10:, 1])
    (tmp_path / "x.npy").unlink()
    with pytest.raises(FileNotFoundError, match="x.npy"):
        pickle.loads(sent)


def test_parts_are_made_when_walked_through_and_again() -> None:
    made = []

    def make(first: int, last: int) -> torch.Tensor:
        made.append((first, last))
        return torch.arange(first, last, dtype=torch.float32)[:, None]

    parts = Parts(make, 7, 3)
    assert not made and parts.nbytes == 28
    assert torch.equal(torch.cat(list(in_parts(parts))), torch.arange(7.0)[:, None]) and made[1:] == [(0, 3), (3, 6), (6, 7)]
    assert torch.equal(distance((torch.zeros(1, 1), parts)), -torch.arange(7.0, dtype=torch.float64)[None]), "a second walk"
    assert some(10, 4).tolist() == [0, 3, 6, 9] and some(3, 9).tolist() == [0, 1, 2]


def test_methods_by_parts_equal_one_matrix() -> None:
    x, q = (normals((64,), [(name, i) for i in range(n)]) for name, n in (("x", 2500), ("q", 3)))
    square = x.double().T @ x.double() + 0.1 * x.double().square().sum(1).mean() * torch.eye(64, dtype=torch.float64)
    expected = q.double() @ torch.linalg.inv(square) @ x.double().T
    leverages = (x.double() @ torch.linalg.inv(square) * x.double()).sum(1)
    for images in (x, Parts(lambda first, last: x[first:last], 2500, 64)):
        scores, leverage = kernel((q, images), 0.1, 64)
        torch.testing.assert_close(scores, expected)
        torch.testing.assert_close(leverage, leverages)
        torch.testing.assert_close(dot((q, images)), q.double() @ x.double().T)
        torch.testing.assert_close(cosine((q, images)), torch.cosine_similarity(q.double()[:, None], x.double()[None], dim=2))
    few = Parts(lambda first, last: x[first:last], 50, 7)
    torch.testing.assert_close(kernel((q, few), 0.1, 64)[0], kernel((q, x[:50]), 0.1, 64)[0], rtol=0, atol=0)


def test_losses_from_disk_are_the_same_to_the_bit(tmp_path, unet, scheduler, data) -> None:  # noqa: F811
    latents, texts = data
    lazy = stored(tmp_path / "x.npy", latents), stored(tmp_path / "c.npy", texts)
    assert torch.equal(loss_table(unet, scheduler, *lazy, IDS, TIMESTEPS, 3, 7), loss_table(unet, scheduler, latents, texts, IDS, TIMESTEPS, 3, 7))


def test_rows_are_no_sequence(two) -> None:
    lazy, values = two
    assert np.array_equal(np.asarray(lazy), values), "not the empty array that numpy makes of a sequence without a first element"
    with pytest.raises(TypeError, match="not iterable"):
        list(zip(lazy, range(6)))
