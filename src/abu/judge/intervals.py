"""How sure a mean or a difference is."""

import numpy as np
from scipy.stats import bootstrap, wilcoxon

from abu.diffusion.noise import stream


def standard_error(values: np.ndarray) -> float:
    """Standard error of the mean over the first axis' values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def interval(values: np.ndarray, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval (percentiles, 9999 resamples of the queries) of the mean of ``values``
    [Q]."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float(np.mean(values)), float(np.mean(values))
    options: dict = {"confidence_level": level, "method": "percentile"}
    draw = stream(seed, "bootstrap")
    resampled = bootstrap((np.asarray(values),), np.mean, random_state=draw, **options)
    return float(resampled.confidence_interval.low), float(resampled.confidence_interval.high)


def paired(left: np.ndarray, right: np.ndarray) -> float:
    """p value of Wilcoxon's signed-rank test, two-sided, that paired values differ; 1 where they
    never do."""
    difference = np.asarray(left, np.float64) - np.asarray(right, np.float64)
    return 1.0 if not difference.any() else float(wilcoxon(difference).pvalue)
