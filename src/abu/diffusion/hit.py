"""Does a model draw what it is asked for? Judged by the nearest training picture."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from abu.diffusion.noise import stream


def nearest(drawn: Tensor, pictures: Iterable[np.ndarray]) -> np.ndarray:
    """Number of the picture nearest to each drawn one, int64 [D], by squared distance of pixels;
    ``drawn``: float32 [D, 3, H, W]; ``pictures``: N of them, [3, H, W] each, one at a time."""
    flat = drawn.flatten(1)
    best, closest = torch.full((len(flat),), torch.inf), torch.zeros(len(flat), dtype=torch.long)
    for number, picture in enumerate(pictures):
        distance = (flat - torch.from_numpy(picture).float().flatten()).square().sum(1)
        closer = distance < best
        best, closest = torch.where(closer, distance, best), closest.masked_fill(closer, number)
    return closest.numpy()


def hit_rate(hits: np.ndarray, seed: int = 0, resamples: int = 9999) -> dict[str, float]:
    """``mean`` of hits, bool [draws, concepts], and the ends ``low`` and ``high`` of its 95 %
    interval, by resampling concepts."""
    rates = hits.mean(0)
    rows = stream(seed, "hit").integers(len(rates), size=(resamples, len(rates)))
    low, high = np.percentile(rates[rows].mean(1), [2.5, 97.5])
    return {"mean": float(rates.mean()), "low": float(low), "high": float(high)}


def spread(values: Sequence[str], count: int) -> list[str]:
    """At most ``count`` of the different values, evenly spread, in their order."""
    different = list(dict.fromkeys(filter(None, values)))
    count = min(count, len(different))
    return [different[i * len(different) // count] for i in range(count)]
