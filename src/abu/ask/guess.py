"""The training caption under which a model explains a picture best, where its prompt is not known.

Keys and values of cross-attention see a picture through its text alone: asked without a prompt,
their unlearning says little (docs/ask.md).
"""

import pandas as pd
import torch
from torch import Tensor

from abu.core.attribution import Attribution
from abu.data.images import Images
from abu.diffusion.grid import Grid
from abu.diffusion.losses import loss_table

MOST = 512  # captions that are tried, spread over the different ones


def best_caption(
    shared: Attribution, captions: list[str], name: str, latents: Tensor
) -> tuple[str, Tensor]:
    """Caption, and token states [L, D] of it, with the lowest loss of a picture [c, h, w].

    ``captions``: the first of each image of ``shared``. The loss is a mean over the two middle
    timesteps of the grid, under the same noise for each caption.
    """
    different = pd.Series(captions).drop_duplicates()
    tried = different.iloc[:: -(-len(different) // MOST)]
    texts = torch.stack([shared.images.texts[row, 0] for row in tried.index])
    middle = len(shared.grid.timesteps) // 2
    times = list(shared.grid.timesteps)[max(0, middle - 1) : middle + 1]
    copies = latents.expand(len(tried), 1, *latents.shape)
    same = Images([f"guess {name}"] * len(tried), copies, texts[:, None])
    losses = loss_table(shared.denoiser, same, Grid(times, shared.grid.seed)).mean((1, 2, 3))
    best = int(losses.argmin())
    return tried.iloc[best], texts[best]
