"""Linear datamodelling score: does the sum of scores over a subset predict what a model trained on
it does?"""

import numpy as np
from scipy.stats import spearmanr


def lds(scores: np.ndarray, subsets: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Linear datamodelling score of each query, [Q], in [-1, 1].

    Spearman correlation over M subsets between the predicted ``-sum_{z in S} tau`` and the measured
    loss of the query under the model trained on S. ``scores``: [Q, N], ``subsets``: bool [M, N]
    (True: trained on), ``losses``: [Q, M]. Raises ValueError for fewer than three subsets,
    FloatingPointError for values that are not finite; a query whose prediction or loss never varies
    scores 0.
    """
    if len(subsets) < 3:
        raise ValueError(f"{len(subsets)} subsets have no rank correlation; expected at least 3")
    for name, values in {"scores": scores, "losses": losses}.items():
        if bad := int((~np.isfinite(values)).sum()):
            raise FloatingPointError(f"{bad} of {np.size(values)} {name} are not finite")
    predicted = -np.asarray(scores, np.float64) @ np.asarray(subsets, np.float64).T
    return correlations(predicted, losses)


def correlations(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Spearman correlation of each row of [Q, M] with the same row of the other; 0 where a row
    never varies."""
    flat = lambda row: np.ptp(row) == 0
    correlation = lambda a, b: 0.0 if flat(a) or flat(b) else spearmanr(a, b).statistic
    return np.array([correlation(a, b) for a, b in zip(left, right, strict=True)])
