"""What is scored, as arrays: images under their ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Array = Any
"""A tensor, or ``abu.data.rows.Rows``, which look like one and stay on disk."""


@dataclass(frozen=True)
class Images:
    """``latents`` [N, F, c, h, w] (image and, where F = 2, mirror image) and ``texts`` [N, C, L, D]
    of N ``ids``.

    Ids name the noise that an image meets. Arrays are in memory, or on disk (``abu.data.rows``).
    ``counts``: captions of each image, int64 [N], where they differ: its others are padding, and
    nobody may look at them. None: each has C.
    """

    ids: Sequence[int | str]
    latents: Array
    texts: Array
    counts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | Sequence[int]) -> "Images":
        """Some of the images; nothing is read from disk."""
        ids = self.ids[rows] if isinstance(rows, slice) else [self.ids[row] for row in rows]
        counts = None if self.counts is None else self.counts[rows]
        return Images(ids, self.latents[rows], self.texts[rows], counts)


def captions_of(images: Any, i: int) -> int:
    """How many captions image number ``i`` has."""
    return images.texts.shape[1] if images.counts is None else int(images.counts[i])


def at_most(counts: Tensor | None, captions: int) -> Tensor | None:
    """Captions of each image of which the first so many are left; None where all have as many."""
    if counts is None or int(counts.min()) >= captions:
        return None
    return counts.clamp(max=captions)
