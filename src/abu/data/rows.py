"""Arrays of training images that stay on disk: what is asked for is read when it is asked for, so N
may exceed memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from abu.data.readers import read_array


class Stored:
    """A ``.npy`` file [N, K, ...], memory-mapped; ``encode`` turns what is stored into what is
    meant (token ids into token states).

    Pickled by its path: a worker on another machine reads the file at the same place, or raises
    FileNotFoundError.
    """

    def __init__(self, path: Path, encode: Callable[[Tensor], Tensor] | None = None):
        self.path, self.encode = Path(path).absolute(), encode
        self.array = read_array(self.path, "r")
        entry = (
            self[np.zeros(1, int), np.zeros(1, int)]
            if len(self.array)
            else torch.empty(1, *self.array.shape[2:])
        )
        self.shape = (*self.array.shape[:2], *entry.shape[1:])

    def __reduce__(self):
        return Stored, (self.path, self.encode)

    def __getitem__(self, at: tuple[np.ndarray, np.ndarray]) -> Tensor:
        """Entries of rows and columns, int [B] each: float32 [B, ...]."""
        values = self.array[at]
        return (
            self.encode(torch.from_numpy(values.astype(np.int64)))
            if self.encode
            else torch.from_numpy(values.astype(np.float32))
        )


class Rows:
    """Rows of one or more ``Stored`` arrays under each other, in an order of their own; looks like
    one float32 tensor [N, K, ...].

    A choice of rows (``x[a:b]``, ``x[rows]``, ``x[a:b, :k]``) is ``Rows`` again, and nothing is
    read. With one column, or a column for each row (``x[i, k]``, ``x[rows, 0]``, ``x[rows,
    columns]``), entries are read: float32 [...] or [B, ...].
    """

    def __init__(self, *sources: Stored, at: Tensor | None = None, columns: int | None = None):
        self.sources = sources
        self.at = (
            torch.arange(sum(s.shape[0] for s in sources)) if at is None else at
        )  # in the sources under each other
        self.columns = min(s.shape[1] for s in sources) if columns is None else columns
        if differing := {s.shape[2:] for s in sources} - {sources[0].shape[2:]}:
            raise ValueError(
                f"rows of {sources[0].path} are {tuple(sources[0].shape[2:])}, others "
                f"{sorted(map(tuple, differing))}"
            )

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.at), self.columns, *self.sources[0].shape[2:]))

    def __len__(self) -> int:
        return len(self.at)

    __iter__ = None  # rows are not read one by one

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """Everything, read."""
        return (
            torch.stack([self[:, column] for column in range(self.columns)], 1)
            .numpy()
            .astype(dtype or np.float32)
        )

    def __getitem__(self, index) -> "Tensor | Rows":
        rows, column = index if isinstance(index, tuple) else (index, slice(None))
        if not isinstance(column, slice):
            return self.read(rows, column)
        if column.start or column.step or isinstance(rows, int):
            raise IndexError(
                f"rows are chosen by a slice or a list, columns from the first; found [{rows}, "
                f"{column}]"
            )
        places = (
            self.at[rows]
            if isinstance(rows, slice)
            else self.at[torch.as_tensor(rows, dtype=torch.int64)]
        )
        return Rows(*self.sources, at=places, columns=len(range(self.columns)[column]))

    def read(self, rows, column) -> Tensor:
        places = (
            self.at[rows]
            if isinstance(rows, int | slice)
            else self.at[torch.as_tensor(rows, dtype=torch.int64)]
        )
        column = torch.as_tensor(column, dtype=torch.int64)
        if column.numel() and not -self.columns <= column.min() <= column.max() < self.columns:
            raise IndexError(f"column {column.tolist()} of {self.columns}")
        flat, columns = (
            places.reshape(-1).numpy(),
            (column % self.columns).expand(places.shape).reshape(-1).numpy(),
        )
        values, start = torch.empty(len(flat), *self.shape[2:]), 0
        for source in self.sources:
            inside = np.flatnonzero((flat >= start) & (flat < start + source.shape[0]))
            if len(inside):
                values[torch.from_numpy(inside)] = source[flat[inside] - start, columns[inside]]
            start += source.shape[0]
        return values.reshape(*places.shape, *self.shape[2:])


def stack(first: Rows, second: Rows) -> Rows:
    """The rows of both, with as many columns as both have."""
    offset = sum(source.shape[0] for source in first.sources)
    return Rows(
        *first.sources,
        *second.sources,
        at=torch.cat([first.at, second.at + offset]),
        columns=min(first.columns, second.columns),
    )


class Parts:
    """A large array in parts of ``size`` rows, made by ``make(first, last)`` one at a time whenever
    they are walked through."""

    def __init__(self, make: Callable[[int, int], Tensor], n: int, size: int = 1024):
        self.make, self.n, self.size = make, n, size

    def __iter__(self) -> Iterator[Tensor]:
        return (
            self.make(first, min(first + self.size, self.n))
            for first in range(0, self.n, self.size)
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all parts together."""
        return self.n * self.make(0, 1).nbytes


def column(values: Tensor | Rows, number: int = 0) -> Parts:
    """One column of all rows, [n, ...] a part."""
    return Parts(lambda first, last: values[first:last][:, number], len(values))


def in_parts(values: Tensor | Parts) -> Iterator[Tensor]:
    """Parts of what is in memory or is not."""
    return iter(values if isinstance(values, Parts) else values.split(1024))


def some(n: int, most: int) -> Tensor:
    """At most ``most`` of ``n`` rows, evenly spread."""
    return torch.arange(0, n, max(-(-n // most), 1))
