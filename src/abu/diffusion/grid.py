"""Under what losses are taken: timesteps, captions, mirror images, and named noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from abu.data.checks import check_counts
from abu.data.images import Images
from abu.diffusion.noise import normals


@dataclass(frozen=True)
class Grid:
    """``timesteps`` x ``captions`` (the first so many, None: all) x ``flips`` (False: the image
    alone) under noise of a ``seed``.

    The noise of an entry is named (seed, "loss", image id, caption, timestep), the same for both
    flips: their maximum then compares pictures, not draws. With ``spread`` each timestep meets one
    caption, in turn, in place of all. Raises ValueError for no caption.
    """

    timesteps: Sequence[int]
    seed: int = 0
    captions: int | None = None
    flips: bool = True
    spread: bool = False

    def __post_init__(self):
        check_counts(**({} if self.captions is None else {"captions": self.captions}))

    def of(self, images: Images) -> Images:
        """The images with the captions and flips that the grid asks for."""
        flips = None if self.flips else 1
        return Images(images.ids, images.latents[:, :flips], images.texts[:, : self.captions])

    def shape(self, images: Images) -> tuple[int, int, int, int]:
        """[N, F, C, T] of a table of losses; spread captions make one."""
        chosen = self.of(images)
        captions = 1 if self.spread else chosen.texts.shape[1]
        return len(images), chosen.latents.shape[1], captions, len(self.timesteps)


def batches(images: Images, grid: Grid, batch_size: int) -> list[Callable]:
    """Batches of all entries (image, caption, timestep, flip), caption-major, each drawn when it is
    called.

    Each gives places (i, c, t, f), int64 [B] each, and x0, eps [B, c, h, w], t [B], and one text a
    caption, [B', L, D].
    """
    latents, texts = grid.of(images).latents, grid.of(images).texts
    steps, captions = torch.as_tensor(grid.timesteps), texts.shape[1]
    pairs = torch.cartesian_prod(torch.arange(len(latents)), torch.arange(captions))  # (i, c)
    rows = torch.cartesian_prod(torch.arange(len(steps)), torch.arange(latents.shape[1]))  # (t, f)
    groups = [(pairs, rows)]
    if grid.spread:
        numbers = range(min(captions, len(steps)))
        groups = [(pairs[pairs[:, 1] == c], rows[rows[:, 0] % captions == c]) for c in numbers]

    def draw(pairs: Tensor, rows: Tensor):
        i, c = pairs.repeat_interleave(len(rows), 0).T
        t, f = rows.repeat(len(pairs), 1).T
        named = zip(i.tolist(), c.tolist(), steps[t].tolist())
        keys = [(grid.seed, "loss", images.ids[a], b, s) for a, b, s in named]
        eps = normals(latents.shape[2:], keys)
        text = texts[pairs[:, 0], pairs[:, 1]].float()
        return (i, c, t, f), (latents[i, f].float(), eps, steps[t], text)

    return [
        partial(draw, some, few)
        for pairs, rows in groups
        for some in pairs.split(max(1, batch_size // len(rows)))
        for few in rows.split(min(len(rows), batch_size))
    ]
