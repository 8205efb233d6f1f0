"""A picture and its prompt as the model was shown its own."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from abu.core.regions import box
from abu.data.pictures import read_image
from abu.study.system import System


@dataclass(frozen=True)
class Question:
    """A picture that is asked about: its ``file``, its ``prompt`` or None, ``pixels`` [3, side,
    side] in [0, 1], ``latents`` [c, h, w], token states ``text`` [L, D], and the weights of its
    ``region`` [h, w] or None. ``name`` names its noise: the picture's pixels and its prompt, not
    its file or place. ``guessed``: that the prompt is not its own but the caption that fits
    best."""

    name: str
    file: Path
    prompt: str | None
    pixels: np.ndarray
    latents: Tensor
    text: Tensor
    region: Tensor | None = None
    guessed: bool = False


def read_question(
    system: System, file: Path, prompt: str | None, region: Sequence[float] | None = None
) -> Question:
    """A picture as ``prepare`` would take it, and its prompt; encoded alone, so that its numbers
    do not depend on what else is asked. ``region``: left, top, right, bottom as fractions.

    Raises ValueError as ``read_image`` and ``abu.core.regions.box``, FloatingPointError for
    latents that are not finite.
    """
    pixels = read_image(file, system.side, system.background)
    latents = system.components.encode(torch.from_numpy(pixels)[None])[0]
    if not latents.isfinite().all():
        raise FloatingPointError(f"latents of {file} are not finite")
    text = system.empty if prompt is None else system.components.texts([prompt])[0]
    weights = None if region is None else box(region, tuple(latents.shape[1:]))
    seen = pixels.tobytes() + (prompt or "").encode()
    name = hashlib.blake2b(seen, digest_size=8).hexdigest()
    return Question(name, file, prompt, pixels / 2 + 0.5, latents, text, weights)
