"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the runner writes files too, and needs no second to begin
    import torch


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """``write`` to a temporary name beside ``path``, then rename; nothing is left behind if it
    fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{os.getpid()}-{path.name}"
    )  # keeps the suffix, which numpy would add
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, facts: dict) -> None:
    """Facts as indented json."""
    write_atomically(path, lambda file: file.write_text(json.dumps(facts, indent=1) + "\n"))


def write_array(path: Path, array: np.ndarray | torch.Tensor) -> None:
    """One ``.npy`` file."""
    write_atomically(path, lambda file: np.save(file, np.asarray(array), allow_pickle=False))


def write_parts(
    path: Path, shape: tuple[int, ...], dtype: str, parts: Iterable[torch.Tensor]
) -> None:
    """One ``.npy`` file of ``shape`` from parts that follow each other along its first axis, one in
    memory at a time.

    Raises ValueError unless the parts fill the file.
    """

    def write(file: Path) -> None:
        array, row = np.lib.format.open_memmap(file, "w+", dtype, shape), 0
        for part in parts:
            array[row : row + len(part)] = part
            row += len(part)
        if row != shape[0]:
            raise ValueError(f"{path}: {row} rows came; expected {shape[0]}")
        array.flush()

    write_atomically(path, write)
