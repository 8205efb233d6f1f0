"""What a grid leaves out changes no number of what it keeps."""

from dataclasses import replace

import torch
from helpers import TIMESTEPS

from abu.diffusion.grid import Grid
from abu.diffusion.losses import loss_table


def test_spread_captions_are_entries_of_the_full_grid(denoiser, images) -> None:
    whole = loss_table(denoiser, images, Grid(TIMESTEPS))
    grid = Grid(TIMESTEPS, spread=True)
    spread = loss_table(replace(denoiser, batch_size=5), images, grid)
    assert spread.shape == grid.shape(images) == (5, 2, 1, 3)
    for t in range(3):
        entries = whole[:, :, t % 2, t]
        torch.testing.assert_close(spread[:, :, 0, t], entries, rtol=1e-5, atol=1e-6)


def test_fewer_captions_and_flips_are_entries_of_the_full_grid(denoiser, images) -> None:
    whole = loss_table(denoiser, images, Grid(TIMESTEPS))
    grid = Grid(TIMESTEPS, captions=1, flips=False)
    few = loss_table(denoiser, images, grid)
    assert few.shape == grid.shape(images) == (5, 1, 1, 3)
    torch.testing.assert_close(few, whole[:, :1, :1], rtol=1e-5, atol=1e-6)
