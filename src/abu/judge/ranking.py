"""How well a ranking of images finds what it should."""

import numpy as np
from sklearn.metrics import average_precision_score


def rank(scores: np.ndarray) -> np.ndarray:
    """Positions of images from the highest score to the lowest, int64 [..., N]; ties keep the given
    order.

    Raises FloatingPointError for a score that is not finite.
    """
    scores = np.asarray(scores)
    if bad := int((~np.isfinite(scores)).sum()):
        raise FloatingPointError(f"{bad} of {scores.size} scores are not finite")
    return np.argsort(-scores, axis=-1, kind="stable")


def recall(scores: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Share of the ``relevant`` images (bool [N], at least one) among the ``k`` with the highest
    scores [N]."""
    if not np.any(relevant):
        raise ValueError("no relevant image: recall is not defined")
    return float(np.asarray(relevant)[rank(scores)[:k]].sum() / np.sum(relevant))


def chance_precision(n: int, m: int) -> float:
    """Expected average precision of a random ranking of ``n`` images of which ``m`` are relevant:
    ``((m - 1) (n - H_n) / (n - 1) + H_n) / n``, more than m / n."""
    harmonic = (1 / np.arange(1, n + 1)).sum()
    return float(((m - 1) * (n - harmonic) / max(n - 1, 1) + harmonic) / n)


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Area under precision over recall of one ranking, [N] scores against bool [N]
    (scikit-learn's)."""
    if not np.any(relevant):
        raise ValueError("no relevant image: average precision is not defined")
    return float(average_precision_score(relevant, scores))


def found_among(scores: np.ndarray, wanted: np.ndarray, candidates: int, k: int) -> np.ndarray:
    """Share of the top ``k`` by ``wanted`` [Q, N] that stands among the first ``candidates`` by
    ``scores`` [Q, N]: [Q]."""
    pairs = zip(rank(scores)[:, :candidates], rank(wanted)[:, :k], strict=True)
    return np.array([np.isin(best, chosen).mean() for chosen, best in pairs])


def choice(scores: np.ndarray, boxed: np.ndarray, other: np.ndarray) -> float:
    """Share of pairs (an image of the boxed part, one of the other) in which the boxed one stands
    higher; 0.5: the box chooses nothing.

    ``scores``: [N]; ``boxed``, ``other``: bool [N]. Raises ValueError where one of them is empty or
    they share an image.
    """
    counts = [int(np.sum(images)) for images in (boxed, other, boxed & other)]
    if not counts[0] or not counts[1] or counts[2]:
        raise ValueError("{} images of the boxed part, {} of the other, {} of both".format(*counts))
    place = np.argsort(rank(scores))
    return float((place[boxed][:, None] < place[other][None]).mean())
