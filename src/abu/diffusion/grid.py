"""Under what losses are taken: timesteps, captions, mirror images, and named noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from abu.data.checks import check_counts
from abu.data.images import Images, at_most
from abu.diffusion.noise import normals


@dataclass(frozen=True)
class Grid:
    """``timesteps`` x ``captions`` (the first so many, None: all) x ``flips`` (False: the image
    alone) under noise of a ``seed``.

    The noise of an entry is named (seed, "loss", image id, caption, timestep), the same for both
    flips: their maximum then compares pictures, not draws. With ``spread`` each timestep meets one
    caption, in turn, in place of all; ``turns``: whose turn each timestep is, its place in the list
    of which this one is a part (None: this is the whole). An image that has fewer captions than
    asked for meets those that it has. Raises ValueError for no caption, and for a turn too many or
    too few.
    """

    timesteps: Sequence[int]
    seed: int = 0
    captions: int | None = None
    flips: bool = True
    spread: bool = False
    turns: Sequence[int] | None = None

    def __post_init__(self):
        check_counts(**({} if self.captions is None else {"captions": self.captions}))
        if self.turns is not None and len(self.turns) != len(self.timesteps):
            problem = f"{len(self.turns)} turns for {len(self.timesteps)} timesteps"
            raise ValueError(f"{problem}; expected as many")

    def part(self, numbers: Sequence[int]) -> "Grid":
        """The grid at some of its timesteps, by number: there each image meets the caption and the
        noise that it meets here."""
        turns = range(len(self.timesteps)) if self.turns is None else self.turns
        timesteps = [self.timesteps[number] for number in numbers]
        return replace(self, timesteps=timesteps, turns=[turns[number] for number in numbers])

    def of(self, images: Images) -> Images:
        """The images with the captions and flips that the grid asks for."""
        flips = None if self.flips else 1
        texts = images.texts[:, : self.captions]
        counts = at_most(images.counts, texts.shape[1])
        return Images(images.ids, images.latents[:, :flips], texts, counts)

    def place(self, captions: Tensor) -> Tensor:
        """Where a table of losses has these captions: all in one place if they are spread."""
        return torch.zeros_like(captions) if self.spread else captions

    def shape(self, images: Images) -> tuple[int, int, int, int]:
        """[N, F, C, T] of a table of losses (``filled`` where images have fewer captions); spread
        captions make one."""
        view = self.of(images)
        captions = 1 if self.spread else view.texts.shape[1]
        return len(images), view.latents.shape[1], captions, len(self.timesteps)


def batches(images: Images, grid: Grid, batch_size: int) -> list[Callable]:
    """Batches of all entries (image, caption, timestep, flip), caption-major, each drawn when it is
    called.

    Each gives places (i, c, t, f), int64 [B] each, and x0, eps [B, c, h, w], t [B], and one text a
    caption, [B', L, D].
    """
    view = grid.of(images)
    latents, texts = view.latents, view.texts
    steps, captions = torch.as_tensor(grid.timesteps), texts.shape[1]
    counts = torch.full((len(view),), captions) if view.counts is None else view.counts
    pairs = torch.cartesian_prod(torch.arange(len(latents)), torch.arange(captions))  # (i, c)
    pairs = pairs[pairs[:, 1] < counts[pairs[:, 0]]]
    rows = torch.cartesian_prod(torch.arange(len(steps)), torch.arange(latents.shape[1]))  # (t, f)
    groups = [(pairs, rows)]
    if grid.spread:
        turns = torch.arange(len(steps)) if grid.turns is None else torch.as_tensor(grid.turns)
        cases = [(k, c) for k in counts.unique().tolist() for c in (turns % k).unique().tolist()]
        groups = [
            (
                pairs[(pairs[:, 1] == c) & (counts[pairs[:, 0]] == k)],
                rows[turns[rows[:, 0]] % k == c],
            )
            for k, c in cases
        ]

    def draw(pairs: Tensor, rows: Tensor):
        i, c = pairs.repeat_interleave(len(rows), 0).T
        t, f = rows.repeat(len(pairs), 1).T
        entries = zip(i.tolist(), c.tolist(), steps[t].tolist())
        keys = [(grid.seed, "loss", images.ids[a], b, s) for a, b, s in entries]
        eps = normals(latents.shape[2:], keys)
        text = texts[pairs[:, 0], pairs[:, 1]].float()
        return (i, c, t, f), (latents[i, f].float(), eps, steps[t], text)

    return [
        partial(draw, some, few)
        for pairs, rows in groups
        for some in pairs.split(max(1, batch_size // len(rows)))
        for few in rows.split(min(len(rows), batch_size))
    ]


def filled(table: Tensor, images: Images, grid: Grid) -> Tensor:
    """A table [N, F, C, ...] over a grid in which an image with fewer captions has, in place of
    those that it lacks, the mean over its own: so every mean over captions is over its own."""
    counts = None if grid.spread else grid.of(images).counts
    for k in [] if counts is None else counts.unique().tolist():
        rows = counts == k
        table[rows, :, k:] = table[rows, :, :k].mean(2, keepdim=True)
    return table
