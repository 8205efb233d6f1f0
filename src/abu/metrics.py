"""How well a ranking finds what it should, predicts what retraining does, and how sure that is."""

import numpy as np
from scipy.stats import bootstrap, spearmanr, wilcoxon
from sklearn.metrics import average_precision_score

from abu.noise import stream


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


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Area under precision over recall of one ranking, [N] scores against bool [N] (scikit-learn's)."""
    if not np.any(relevant):
        raise ValueError("no relevant image: average precision is not defined")
    return float(average_precision_score(relevant, scores))


def lds(scores: np.ndarray, subsets: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Linear datamodelling score of each query, [Q], in [-1, 1].

    Spearman correlation over M subsets between the predicted ``-sum_{z in S} tau`` and the measured loss of the query
    under the model trained on S. ``scores``: [Q, N], ``subsets``: bool [M, N] (True: trained on), ``losses``: [Q, M].
    Raises ValueError for fewer than three subsets, FloatingPointError for values that are not finite; a query whose prediction or
    loss never varies scores 0.
    """
    if len(subsets) < 3:
        raise ValueError(f"{len(subsets)} subsets are too few for a rank correlation; expected at least 3")
    for name, values in {"scores": scores, "losses": losses}.items():
        if bad := int((~np.isfinite(values)).sum()):
            raise FloatingPointError(f"{bad} of {np.size(values)} {name} are not finite")
    predicted = -np.asarray(scores, np.float64) @ np.asarray(subsets, np.float64).T
    return correlations(predicted, losses)


def correlations(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Spearman correlation of each row of [Q, M] with the same row of the other; 0 where a row never varies."""
    flat = lambda row: np.ptp(row) == 0
    return np.array([0.0 if flat(a) or flat(b) else spearmanr(a, b).statistic for a, b in zip(left, right, strict=True)])


def overlap(left: np.ndarray, right: np.ndarray, k: int) -> np.ndarray:
    """Share of the top ``k`` of each row of ``right`` [Q, N] that is among the top ``k`` of the same row of ``left``, [Q]."""
    return found_among(left, right, k, k)


def found_among(scores: np.ndarray, wanted: np.ndarray, candidates: int, k: int) -> np.ndarray:
    """Share of the top ``k`` by ``wanted`` [Q, N] that stands among the first ``candidates`` by ``scores`` [Q, N]: [Q]."""
    pairs = zip(rank(scores)[:, :candidates], rank(wanted)[:, :k], strict=True)
    return np.array([np.isin(best, chosen).mean() for chosen, best in pairs])


def interval(values: np.ndarray, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval (percentiles, 9999 resamples of the queries) of the mean of ``values`` [Q]."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float(np.mean(values)), float(np.mean(values))
    draw = stream(seed, "bootstrap")
    found = bootstrap((np.asarray(values),), np.mean, confidence_level=level, method="percentile", random_state=draw)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def paired(left: np.ndarray, right: np.ndarray) -> float:
    """p value of Wilcoxon's signed-rank test, two-sided, that paired values differ; 1 where they never do."""
    difference = np.asarray(left, np.float64) - np.asarray(right, np.float64)
    return 1.0 if not difference.any() else float(wilcoxon(difference).pvalue)
