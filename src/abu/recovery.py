"""How well rankings put a customized model's exemplars on top: tables of scores in, tables of measures out."""

import numpy as np
import pandas as pd

from abu.metrics import average_precision, chance_recall, interval, paired, recall, recall_curve


def measure(scores: pd.DataFrame, exemplars: list[int], k: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Average precision and recall at ``k`` of each (method, query), a row each, then of chance; recall curves [rows but chance, N].

    ``scores`` (method, query, image_id, score): every method and query has every image. Raises ValueError where one lacks some, or
    the scores lack an exemplar.
    """
    wide = scores.pivot(index=["method", "query"], columns="image_id", values="score")
    if wide.isna().any(axis=None):
        raise ValueError(f"{int(wide.isna().any(axis=1).sum())} of {len(wide)} rankings lack images; expected all of {wide.shape[1]}")
    if lacking := set(exemplars) - set(wide.columns):
        raise ValueError(f"exemplars {sorted(lacking)[:5]} were not scored")
    relevant = wide.columns.isin(exemplars)
    values = wide.to_numpy()
    rows = pd.DataFrame({
        "method": wide.index.get_level_values("method"),
        "query": wide.index.get_level_values("query"),
        "precision": [average_precision(row, relevant) for row in values],
        "recall": [recall(row, relevant, k) for row in values],
    })
    chance = rows.drop_duplicates("query").assign(method="chance", precision=relevant.mean(), recall=chance_recall(len(relevant), k))
    return pd.concat([rows, chance], ignore_index=True), np.array([recall_curve(row, relevant) for row in values])


def summarize(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Means over queries by method with 95 % bootstrap intervals, the best first: ``mAP``, ``low``, ``high``, ``recall``,
    ``recall_low``, ``recall_high``, and ``p`` of the difference to AbU (Wilcoxon, paired over (model, query), uncorrected)."""
    wide = rows.pivot(index=["model", "query"], columns="method", values=["precision", "recall"])
    table = {}
    for method in wide["precision"]:
        precision, found = wide["precision", method].to_numpy(), wide["recall", method].to_numpy()
        ends = (*interval(precision, seed), *interval(found, seed))
        p = np.nan if method in ("abu", "chance") or "abu" not in wide["precision"] else paired(precision, wide["precision", "abu"].to_numpy())
        table[method] = (len(wide), precision.mean(), *ends[:2], found.mean(), *ends[2:], p)
    columns = ["queries", "mAP", "low", "high", "recall", "recall_low", "recall_high", "p"]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("method").sort_values("mAP", ascending=False)


def best(scores: pd.DataFrame, method: str, queries: list[int], top: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores, [Q, top] each, of the images that a method ranks first for each of the queries."""
    part = scores[(scores.method == method) & scores["query"].isin(queries)]
    first = part.sort_values(["query", "score"], ascending=[True, False], kind="stable").groupby("query").head(top)
    return tuple(first[column].to_numpy().reshape(len(queries), -1) for column in ("image_id", "score"))


def words(table: pd.DataFrame) -> str:
    """What a table of ``summarize`` says of AbU, in three lines."""
    abu, rest = table.loc["abu"], table.drop(index=["abu", "chance"])
    named = lambda part: ", ".join(f"{method} ({row.mAP:.3f}, p = {row.p:.2g})" for method, row in part.iterrows()) or "none"
    better = named(rest[(rest.mAP > abu.mAP) & (rest.p < 0.05)])
    worse = named(rest[(rest.mAP < abu.mAP) & (rest.p < 0.05)])
    return f"Better than AbU (p < 0.05): {better}.\n  Worse: {worse}.\n  Not told apart: {named(rest[~(rest.p < 0.05)])}."
