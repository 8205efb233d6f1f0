"""What unlearning each query did: to its loss, to other queries', and to its own pictures' rank."""

import numpy as np
import pandas as pd

from abu.judge.ranking import average_precision, recall


def each_query(
    scores: np.ndarray, right: np.ndarray, rises: np.ndarray, known: np.ndarray
) -> pd.DataFrame:
    """A row a query: ``rise`` of its loss, ``others_rise``, of the queries that were not unlearned;
    of the ``right`` images, bool [Q, N], by ``scores`` [Q, N]: average ``precision``, and, of the
    ``known`` queries, bool [Q], ``own_recall``, their share in the top (own + 1), and its
    ``chance``. NaN where there is none. ``rises``: [unlearned, measured]."""
    counts, n, rises = right.sum(1), scores.shape[1], np.asarray(rises, float)
    others = np.where(np.eye(len(rises), dtype=bool), 0.0, rises).sum(1) / max(len(rises) - 1, 1)
    table = pd.DataFrame({"rise": rises.diagonal(), "others_rise": others})
    if len(rises) < 2:
        table["others_rise"] = np.nan
    for q in np.flatnonzero(counts):
        table.loc[q, "precision"] = average_precision(scores[q], right[q])
        if known[q]:
            table.loc[q, "own_recall"] = recall(scores[q], right[q], int(counts[q]) + 1)
            table.loc[q, "chance"] = min(int(counts[q]) + 1, n) / n
    return table.reindex(columns=["rise", "others_rise", "own_recall", "chance", "precision"])


def over_queries(table: pd.DataFrame, moves: np.ndarray) -> dict[str, float | int | None]:
    """Means of ``each_query``, with standard errors over queries, and of the relative norms of
    their ``moves`` [Q]; None where there is none."""
    mean, error = table.mean(), table.sem()
    metrics = {
        "relative_norm": moves.mean(),
        "target_rise": mean.rise,
        "others_rise": mean.others_rise,
        "own_recall": mean.own_recall,
        "own_recall_se": error.own_recall,
        "random_recall": mean.chance,
        "average_precision": mean.precision,
        "average_precision_se": error.precision,
    }
    told = {name: None if np.isnan(value) else float(value) for name, value in metrics.items()}
    return told | {"queries": len(table)}
