"""Picture files as pixels."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError


def read_image(path: Path, side: int) -> np.ndarray:
    """RGB pixels, float32 [3, side, side] in [-1, 1]: shorter edge resized to ``side``, then a
    centre crop.

    Raises ValueError for a file that is no readable image, or a side below 1.
    """
    if side < 1:
        raise ValueError(f"side is {side}; expected 1 pixel or more")
    try:
        image = Image.open(path).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is not a readable image: {error}") from error
    if image.size != (side, side):
        scale = side / min(image.size)
        image = image.resize(
            [max(side, round(s * scale)) for s in image.size], Image.Resampling.LANCZOS
        )
        left, top = [(s - side) // 2 for s in image.size]
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1
