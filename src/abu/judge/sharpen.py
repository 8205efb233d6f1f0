"""What a score is worth: judges that add scores up ask for their size, not their order alone."""

from collections.abc import Sequence

import numpy as np


def sharpen(scores: np.ndarray, sharpness: float | None) -> np.ndarray:
    """``exp(sharpness (s - max s) / sd(s))`` of each query's scores s, [Q, N] like them: their
    order is kept, and the higher the ``sharpness``, the more the first ones count. None: the scores
    as they are; equal scores of a query stay equal.

    Raises ValueError unless sharpness > 0.
    """
    if sharpness is None:
        return scores
    if not sharpness > 0:
        raise ValueError(f"sharpness is {sharpness}; expected a number above 0, or null")
    below = scores - scores.max(1, keepdims=True)
    spread = scores.std(1, keepdims=True)
    return np.exp(sharpness * np.divide(below, spread, out=np.zeros_like(below), where=spread > 0))


def product(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Logarithm of the product of several methods' sharpened scores, for a sharpness of its own to
    be chosen: the sum of scores [Q, N] in standard deviations of each query's."""
    spread = [scores.std(1, keepdims=True) for scores in parts]
    of = lambda scores, sd: np.divide(scores, sd, out=np.zeros_like(scores), where=sd > 0)
    return np.sum([of(scores, sd) for scores, sd in zip(parts, spread)], 0)
