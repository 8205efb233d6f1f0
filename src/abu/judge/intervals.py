"""How sure a mean or a difference is."""

import numpy as np
from scipy.stats import wilcoxon

from abu.diffusion.noise import stream


def paired(left: np.ndarray, right: np.ndarray) -> float:
    """p value of Wilcoxon's signed-rank test, two-sided, that paired values differ; 1 where they
    never do."""
    difference = np.asarray(left, np.float64) - np.asarray(right, np.float64)
    return 1.0 if not difference.any() else float(wilcoxon(difference).pvalue)


def clustered(values: np.ndarray, clusters: np.ndarray, seed: int, resamples: int = 2000):
    """Means of ``values`` [rows, M] over rows, [resamples, M], where clusters (of each row), and
    rows within those drawn, are drawn again: rows of one cluster are not independent."""
    rows_of = [np.flatnonzero(clusters == cluster) for cluster in dict.fromkeys(clusters)]
    means = np.empty((resamples, values.shape[1]))
    for b in range(resamples):
        draw = stream(seed, "clusters", b)
        drawn = (rows_of[c] for c in draw.integers(len(rows_of), size=len(rows_of)))
        rows = np.concatenate([at[draw.integers(len(at), size=len(at))] for at in drawn])
        means[b] = values[rows].mean(0)
    return means


def two_sided(drawn: np.ndarray) -> float:
    """p value, two-sided, of a difference from its draws."""
    side = min((drawn <= 0).sum(), (drawn >= 0).sum()) + 1
    return float(min(1.0, 2 * side / (len(drawn) + 1)))


def holm(p: np.ndarray) -> np.ndarray:
    """p values corrected for their number (Holm 1979)."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(steps, 1.0)[np.argsort(order)]
