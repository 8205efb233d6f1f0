"""How well a ranking finds what it should."""

import numpy as np


def rank(scores: np.ndarray) -> np.ndarray:
    """Positions of images from the highest score to the lowest, int64 [..., N]; ties keep the given order.

    Raises FloatingPointError for a score that is not finite.
    """
    scores = np.asarray(scores)
    if not np.isfinite(scores).all():
        raise FloatingPointError(f"{(~np.isfinite(scores)).sum()} of {scores.size} scores are not finite")
    return np.argsort(-scores, axis=-1, kind="stable")


def recall(scores: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Share of the ``relevant`` images (bool [N], at least one) among the ``k`` with the highest scores [N]."""
    if not np.any(relevant):
        raise ValueError("no relevant image: recall is not defined")
    return float(np.asarray(relevant)[rank(scores)[:k]].sum() / np.sum(relevant))


def chance_recall(n: int, k: int) -> float:
    """Expected recall of a random ranking of ``n`` images."""
    return min(k, n) / n


def standard_error(values: np.ndarray) -> float:
    """Standard error of the mean over the first axis' values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
