"""Regions of a picture as weights on the latent grid, to unlearn a part of it alone, and what they
choose."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def box(edges: Sequence[float], grid: tuple[int, int]) -> Tensor:
    """Share of each place of the ``grid`` (h, w) that a box covers, float32 [h, w].

    ``edges``: left, top, right, bottom, as fractions of the picture's width and height. Raises
    ValueError for a box that is empty or leaves the picture.
    """
    if len(edges) != 4 or not (0 <= edges[0] < edges[2] <= 1 and 0 <= edges[1] < edges[3] <= 1):
        expected = "[left, top, right, bottom] within 0..1, left < right and top < bottom"
        raise ValueError(f"box is {list(edges)}; expected {expected}")

    def covered(first: float, last: float, n: int) -> Tensor:
        place = torch.arange(n)
        return ((place + 1).clamp(max=last * n) - place.clamp(min=first * n)).clamp(min=0)

    rows, columns = covered(edges[1], edges[3], grid[0]), covered(edges[0], edges[2], grid[1])
    return torch.outer(rows, columns).float()


def mask(path: Path, grid: tuple[int, int]) -> Tensor:
    """Mean brightness in [0, 1] of a mask picture over each place of the ``grid`` (h, w), float32
    [h, w]: white belongs to the region.

    Raises FileNotFoundError for a missing file, ValueError for one that is no picture or all black.
    """
    try:
        grey = Image.open(path).convert("L")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} is not a readable mask: {error}") from error
    small = grey.convert("F").resize(grid[::-1], Image.Resampling.BOX)
    weights = torch.from_numpy(np.asarray(small, np.float32) / 255)
    if not weights.any():
        raise ValueError(f"{path} is all black: the region is empty")
    return weights


def regions_of(values: dict, names: Sequence[str], grid: tuple[int, int]) -> tuple:
    """Region of each query by its name: of a box (four fractions) or of a mask file, as ``box`` and
    ``mask``; None where ``values`` has none. Raises KeyError for a name that no query has."""
    if unknown := set(values) - set(names):
        raise KeyError(f"regions are asked for {sorted(unknown)}; the queries are {list(names)}")
    read = lambda value: mask(Path(value), grid) if isinstance(value, str) else box(value, grid)
    return tuple(read(values[name]) if name in values else None for name in names)


def side_by_side(left: Tensor, right: Tensor) -> Tensor:
    """The left half of one picture or latent [..., w] beside the right half of another."""
    middle = left.shape[-1] // 2
    return torch.cat([left[..., :middle], right[..., middle:]], -1)
