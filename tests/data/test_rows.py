"""Arrays that stay on disk look like the tensors that they hold."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TIMESTEPS

from abu.baselines.similarity import distance
from abu.data.images import Images
from abu.data.rows import Parts, Rows, Stored, column, in_parts, some, stack
from abu.diffusion.grid import Grid
from abu.diffusion.losses import loss_table
from abu.diffusion.noise import normals


def stored(path: Path, values: torch.Tensor, dtype: str = "float32") -> Rows:
    np.save(path, values.numpy().astype(dtype))
    return Rows(Stored(path))


@pytest.fixture
def two(tmp_path) -> tuple[Rows, torch.Tensor]:
    """Rows of two files, in another order than theirs, and the tensor that they stand for."""
    first = normals((3, 2, 4), [("a", i) for i in range(5)])
    second = normals((2, 2, 4), [("b", i) for i in range(4)]).half()
    upper = stored(tmp_path / "a.npy", first)[[4, 0, 2]]
    lower = stored(tmp_path / "b.npy", second, "float16")[1:]
    return stack(upper, lower), torch.cat([first[[4, 0, 2], :2], second[1:].float()])


ENTRIES = [
    (2, 1),
    (-1, 0),
    (slice(None), 0),
    (slice(1, 5, 2), 1),
    ([5, 0, 0], 1),
    (torch.tensor([3, 1]), torch.tensor([0, 1])),
    ([1, 2], -1),
]


def test_rows_read_as_the_tensor_does(two) -> None:
    lazy, values = two
    assert lazy.shape == values.shape and len(lazy) == 6 and lazy.shape[2:] == (2, 4)
    for index in ENTRIES:
        assert torch.equal(lazy[index], values[index]), index
    for rows in [slice(2, None), slice(0, 0), [1, 1, 3], torch.tensor([5])]:
        chosen = lazy[rows]
        assert isinstance(chosen, Rows) and chosen.shape == values[rows].shape
        assert torch.equal(chosen[:, 1], values[rows][:, 1])
    few = lazy[1:5, :1]
    assert torch.equal(few[[3, 0], 0], values[1:5, :1][[3, 0], 0]) and few.shape[1] == 1
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


def test_rows_are_no_sequence(two) -> None:
    lazy, values = two
    # not the empty array that numpy makes of a sequence without a first element
    assert np.array_equal(np.asarray(lazy), values)
    with pytest.raises(TypeError, match="not iterable"):
        list(zip(lazy, range(6)))


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

    parts, whole = Parts(make, 7, 3), torch.arange(7.0)[:, None]
    assert not made and parts.nbytes == 28
    assert torch.equal(torch.cat(list(in_parts(parts))), whole)
    assert made[1:] == [(0, 3), (3, 6), (6, 7)]
    far = distance((torch.zeros(1, 1), parts))  # a second walk
    assert torch.equal(far, -whole.T.double())
    assert some(10, 4).tolist() == [0, 3, 6, 9] and some(3, 9).tolist() == [0, 1, 2]


def test_losses_from_disk_are_the_same_to_the_bit(tmp_path, denoiser, images) -> None:
    x, texts = stored(tmp_path / "x.npy", images.latents), stored(tmp_path / "c.npy", images.texts)
    grid = Grid(TIMESTEPS, seed=3)
    lazy = loss_table(denoiser, Images(images.ids, x, texts), grid)
    assert torch.equal(lazy, loss_table(denoiser, images, grid))
