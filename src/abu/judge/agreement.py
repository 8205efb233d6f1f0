"""How far quick answers rank as AbU's finite step does."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from abu.core.quick import Quick
from abu.judge.lds import correlations
from abu.judge.ranking import found_among
from abu.judge.search import mean_precision


def agreement(
    methods: Mapping[str, np.ndarray], finite: np.ndarray, right: np.ndarray, k: int
) -> pd.DataFrame:
    """Of each method's scores [Q, N] against the ``finite`` ones: rank correlation, mean and lowest
    over queries, shares of the finite top 4 and top ``k`` that stand in its own, and mean average
    precision of the ``right`` images, bool [Q, N]."""
    few = min(4, finite.shape[1])
    columns = {}
    for name, scores in methods.items():
        each, top = correlations(scores, finite), partial(found_among, scores, finite)
        told = {"spearman": each.mean(), "lowest": each.min(), "top 4": top(few, few).mean()}
        told |= {f"top {k}": top(k, k).mean(), "average precision": mean_precision(right, scores)}
        columns[name] = told
    return pd.DataFrame(columns).T.rename_axis("method")


def recalls(
    methods: Mapping[str, np.ndarray], finite: np.ndarray, k: int, shares: Sequence[float]
) -> pd.DataFrame:
    """Share of the finite top ``k`` among the first ``candidates`` of each method's, for candidates
    that are ``shares`` of the images, as many as ``k`` or more; a column a method."""
    counts = [count for share in shares if (count := round(share * finite.shape[1])) >= k]
    recall_of = lambda scores: [found_among(scores, finite, count, k).mean() for count in counts]
    columns = {name: recall_of(scores) for name, scores in methods.items()}
    return pd.DataFrame({"candidates": counts, **columns})


def along(
    lengths: Mapping[str, float], walked: np.ndarray, quick: Quick, exact: Quick
) -> pd.DataFrame:
    """Of one query's moves of named relative norms, a row each: mean ``rise`` of the images' losses
    after the finite step, ``walked`` [moves, N], and its rank correlation with each term of a
    ``quick`` answer, with both, and with both of the ``exact`` one."""
    rows = []
    for (name, length), rises in zip(lengths.items(), walked):
        told = {"linear": quick.rise(length, [1]), "Gauss-Newton": quick.rise(length, [2])}
        told |= {"both": quick.rise(length), "both, exact": exact.rise(length)}
        like = {term: correlations(scores, rises[None])[0] for term, scores in told.items()}
        rows.append({"relative_norm": name, "rise": rises.mean(), **like})
    return pd.DataFrame(rows)


def estimators_of(
    parts: Mapping[tuple[str, int], Quick], lengths: np.ndarray, finite: np.ndarray
) -> pd.DataFrame:
    """Of answers by ``what`` they have and how many of it (``value``): mean rank correlation with
    the ``finite`` scores [Q, N] at each query's relative norm, ``lengths`` [Q]."""
    like = lambda quick: correlations(quick.rise(lengths), finite).mean()
    rows = [(*which, like(quick)) for which, quick in parts.items()]
    return pd.DataFrame(rows, columns=["what", "value", "spearman"])


def refined(first: np.ndarray, picked: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, float]:
    """Scores of two stages: those of the ``first``, [Q, N], but for the images that it ``picked``,
    int [Q, K], which have those of the ``second``, [Q, K]; and the rank correlation of the two
    stages among the picked, mean over queries."""
    scores = first.copy()
    np.put_along_axis(scores, picked, second, 1)
    return scores, float(correlations(np.take_along_axis(first, picked, 1), second).mean())
