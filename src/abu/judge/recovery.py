"""How well rankings put a customized model's exemplars on top: tables of scores in, tables of
measures out."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel

from abu.judge.intervals import clustered, holm
from abu.judge.ranking import average_precision, chance_precision, rank, recall


def measure(
    scores: Iterable[pd.DataFrame], exemplars: list[int], k: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """Average precision and recall at ``k`` of each (method, query) and how many ``images`` were
    ranked, a row each, then of chance; ranks of the exemplars in ascending order, from 1, int64
    [rows but chance, exemplars].

    ``scores`` (method, query, image_id, score) come in parts, of one or more methods each: every
    method and query has every image. Raises ValueError where one lacks some, or the scores lack an
    exemplar.
    """
    rows, ranks = [], []
    for scored in scores:
        wide = scored.pivot(index=["method", "query"], columns="image_id", values="score")
        if bad := int(wide.isna().any(axis=1).sum()):
            said = f"{bad} of {len(wide)} rankings lack images"
            raise ValueError(f"{said}; expected all of {wide.shape[1]}")
        if lacking := set(exemplars) - set(wide.columns):
            raise ValueError(f"exemplars {sorted(lacking)[:5]} were not scored")
        relevant = wide.columns.isin(exemplars)
        for (method, query), values in zip(wide.index, wide.to_numpy()):
            measures = average_precision(values, relevant), recall(values, relevant, k)
            rows.append((method, query, *measures, len(values)))
            ranks.append(np.flatnonzero(relevant[rank(values)]) + 1)
    table = pd.DataFrame(rows, columns=["method", "query", "precision", "recall", "images"])
    if len(sizes := {*table.images, len(relevant)}) > 1:
        raise ValueError(f"methods rank {sorted(sizes)} images; expected all the same")
    n = len(relevant)
    expected = {"precision": chance_precision(n, int(relevant.sum())), "recall": min(k, n) / n}
    chance = table.drop_duplicates("query").assign(method="chance", **expected)
    return pd.concat([table, chance], ignore_index=True), np.array(ranks)


def summarize(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Means over queries by method, the best first, with 95 % intervals over models and their
    queries, which share exemplars: ``mAP``, ``low``, ``high``, ``recall``, ``recall_low``,
    ``recall_high``, and ``p`` of the difference to AbU in ``mAP``: a t test paired over models, of
    which each is one unit, corrected for the number of methods (Holm)."""
    wide = rows.pivot(index=["model", "query"], columns="method", values=["precision", "recall"])
    models, methods = wide.index.get_level_values("model").to_numpy(), wide["precision"].columns
    table = pd.DataFrame({"queries": len(wide), "models": len(set(models))}, index=methods)
    for measure, mean, prefix in (("precision", "mAP", ""), ("recall", "recall", "recall_")):
        values = wide[measure].to_numpy()
        table[mean] = values.mean(0)
        ends = np.percentile(clustered(values, models, seed), [2.5, 97.5], axis=0)
        table[f"{prefix}low"], table[f"{prefix}high"] = ends
    table["p"] = np.nan
    others = [method for method in methods if method not in ("abu", "chance")]
    if "abu" in methods and others and len(set(models)) > 1:
        each = wide["precision"].groupby("model").mean()
        table.loc[others, "p"] = holm(ttest_rel(each[others], each[["abu"]]).pvalue)
    return table.sort_values("mAP", ascending=False)


def summaries(rows: pd.DataFrame, seed: int = 0) -> dict[tuple[str, str], pd.DataFrame]:
    """``summarize`` of all rows, and of those of each category and of each model, by (group,
    name)."""
    groups = {("all", "all"): rows}
    for group in ("category", "model"):
        groups |= {(group, name): members for name, members in rows.groupby(group, sort=False)}
    return {key: summarize(members, seed) for key, members in groups.items()}


def best(scores: pd.DataFrame, queries: list[int], top: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores, [Q, top] each, of the images that stand first for each of the queries in the
    scores of one method."""
    ranked = scores.sort_values("score", ascending=False, kind="stable").groupby("query")
    firsts = [ranked.get_group(query).head(top) for query in queries]
    return np.stack([rows.image_id for rows in firsts]), np.stack([rows.score for rows in firsts])
