"""How far quick answers rank as AbU's finite step does."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

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
    rows = []
    for name, scores in methods.items():
        each = correlations(scores, finite)
        rows.append(
            {
                "method": name,
                "spearman": each.mean(),
                "lowest": each.min(),
                "top 4": found_among(scores, finite, few, few).mean(),
                f"top {k}": found_among(scores, finite, k, k).mean(),
                "average precision": mean_precision(right, scores),
            }
        )
    return pd.DataFrame(rows).set_index("method")


def recalls(
    methods: Mapping[str, np.ndarray], finite: np.ndarray, k: int, shares: Sequence[float]
) -> pd.DataFrame:
    """Share of the finite top ``k`` among the first ``candidates`` of each method's, for candidates
    that are ``shares`` of the images, as many as ``k`` or more; a column a method."""
    counts = [count for share in shares if (count := round(share * finite.shape[1])) >= k]
    found = lambda scores: [found_among(scores, finite, count, k).mean() for count in counts]
    columns = {name: found(scores) for name, scores in methods.items()}
    return pd.DataFrame({"candidates": counts, **columns})
