"""What is scored, as arrays: images under their ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Array = Any
"""A tensor, or ``abu.data.rows.Rows``, which look like one and stay on disk."""


@dataclass(frozen=True)
class Images:
    """``latents`` [N, F, c, h, w] (image and, where F = 2, mirror image) and ``texts`` [N, C, L, D]
    of N ``ids``.

    Ids name the noise that an image meets. Arrays are in memory, or on disk (``abu.data.rows``).
    """

    ids: Sequence[int | str]
    latents: Array
    texts: Array

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | Sequence[int]) -> "Images":
        """Some of the images; nothing is read from disk."""
        ids = self.ids[rows] if isinstance(rows, slice) else [self.ids[row] for row in rows]
        return Images(ids, self.latents[rows], self.texts[rows])
