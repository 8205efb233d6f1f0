"""Linear datamodelling score on complementary halves: does the sum of scores over the images that a
model has predict what it makes of a query?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from abu.data.checks import check_finite
from abu.diffusion.noise import stream
from abu.judge.intervals import holm, two_sided

ALL = "all"
"""What stands for the queries of all kinds."""


def correlations(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Spearman correlations along the last axis of [..., P]; 0 where one side never varies."""
    ranks = [rankdata(values, axis=-1) for values in (left, right)]
    a, b = (values - values.mean(-1, keepdims=True) for values in ranks)
    size = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.divide((a * b).sum(-1), size, out=np.zeros(size.shape), where=size > 0)


def predicted(scores: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """What scores [Q, N] say of each pair, [Q, P]: loss under the half less that under its
    complement, ``-(sum_{z in S} tau - sum_{z not in S} tau)``, to 1e-12 of a query's scores, so
    that equal sums tie whatever their order; ``halves``: bool [P, N].

    Raises FloatingPointError for scores that are not finite.
    """
    values = np.array(scores, np.float64)  # torch reads none that is not writable
    check_finite("scores", torch.from_numpy(values))
    total = np.abs(values).sum(1, keepdims=True)
    step = 1e-12 * np.where(total > 0, total, 1)
    return np.round(-values @ (2.0 * halves - 1).T / step) * step


def lds(scores: np.ndarray, halves: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """Linear datamodelling score of each query, [Q], in [-1, 1]: Spearman correlation over P pairs
    of models, one trained on a half S and one on its complement under one seed, between the
    predicted and the measured difference of the query's losses.

    ``scores``: [Q, N]; ``halves``: bool [P, N]; ``differences``: [P, Q]. What the two trainings
    share cancels. Raises ValueError for fewer than three pairs.
    """
    if len(halves) < 3:
        raise ValueError(f"{len(halves)} pairs have no rank correlation; expected at least 3")
    return correlations(predicted(scores, halves), differences.T)


def resampled(
    told: Sequence[np.ndarray],
    measured: np.ndarray,
    groups: Sequence[np.ndarray],
    seed: int = 0,
    resamples: int = 2000,
) -> np.ndarray:
    """Mean scores of each of K predictions [Q, P], in each group of queries (row numbers), where
    pairs and queries are both drawn again: [K, groups, resamples]. All predictions meet the same
    draws, so their differences are paired."""
    queries, pairs = measured.shape
    times = np.empty((pairs, resamples))
    rows: list[list[np.ndarray]] = [[] for _ in groups]
    for b in range(resamples):
        draw = stream(seed, "resample", b)
        times[:, b] = np.bincount(draw.integers(pairs, size=pairs), minlength=pairs)
        for drawn, group in zip(rows, groups):
            drawn.append(group[draw.integers(len(group), size=len(group))])
    each = np.empty((len(told), queries, resamples))
    for q in range(queries):
        true = ranks(measured[q], times)
        for k, predictions in enumerate(told):
            each[k, q] = correlation(ranks(predictions[q], times), true, times)
    of = lambda drawn: np.take_along_axis(each, np.array(drawn).T[None], 1).mean(1)
    return np.stack([of(drawn) for drawn in rows], 1)


def ranks(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Ranks of values [P], less their mean, in each of B samples that hold them ``times`` [P, B]:
    [P, B]; equal ones share the mean of their ranks. The total of ``times`` is P."""
    below = (values[None] < values[:, None]) + 0.5 * (values[None] == values[:, None])
    return below @ times - len(values) / 2


def correlation(a: np.ndarray, b: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Of ``ranks`` [P, B] of two sides in the same samples: [B]; 0 where one side never varies."""
    weighed = times * a
    size = np.sqrt((weighed * a).sum(0) * (times * b * b).sum(0))
    return np.divide((weighed * b).sum(0), size, out=np.zeros(size.shape), where=size > 0)


def means_by_kind(values: np.ndarray, kinds: Sequence[str]) -> dict[str, float]:
    """Means of the queries' values [Q], of all and of each kind."""
    of_kind = np.asarray(kinds)
    return {ALL: values.mean()} | {k: values[of_kind == k].mean() for k in dict.fromkeys(kinds)}


def table_of(
    scores: Mapping[str, np.ndarray],
    halves: np.ndarray,
    differences: np.ndarray,
    kinds: Sequence[str],
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Linear datamodelling scores of methods by kind of query, and of all: method, kind, queries,
    ``lds``, and the ends ``low`` and ``high`` of its 95 % interval over pairs and queries.

    ``scores``: [Q, N] by method; ``kinds``: of the Q queries.
    """
    names, of_kind = [ALL, *dict.fromkeys(kinds)], np.asarray(kinds)
    groups = [np.flatnonzero((of_kind == name) | (name == ALL)) for name in names]
    told = [predicted(values, halves) for values in scores.values()]
    spread = resampled(told, differences.T, groups, seed, resamples)
    rows = []
    for k, (method, values) in enumerate(scores.items()):
        means = means_by_kind(lds(values, halves, differences), kinds)
        for g, (kind, group) in enumerate(zip(names, groups)):
            low, high = np.percentile(spread[k, g], [2.5, 97.5])
            row = {"method": method, "kind": kind, "queries": len(group), "lds": means[kind]}
            rows.append(row | {"low": low, "high": high})
    return pd.DataFrame(rows)


def compare(
    scores: Mapping[str, np.ndarray],
    halves: np.ndarray,
    differences: np.ndarray,
    kinds: Sequence[str],
    comparisons: Mapping[str, Mapping[str, Sequence[str]]],
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Named comparisons, by kind of query (or ``all``) each of a method with others: kind, method,
    other, the ``difference`` of their scores, the ends ``low`` and ``high`` of its 95 % interval
    over pairs and queries, ``p`` (two sides, of the same draws), ``p_holm``, corrected for the
    number of comparisons (Holm), and whether they are told ``apart`` by it at 5 %.

    Other arguments as in ``table_of``; comparisons of methods without scores, and of kinds that no
    query has, are left out.
    """
    there, of_kind = {ALL, *kinds}, np.asarray(kinds)
    named = [
        (kind, method, other)
        for kind, methods in comparisons.items()
        for method, others in methods.items()
        for other in others
        if {method, other} <= scores.keys() and kind in there
    ]
    columns = ["kind", "method", "other", "difference", "low", "high", "p"]
    if not named:
        return pd.DataFrame(columns=[*columns, "p_holm", "apart"])
    named_kinds = list(dict.fromkeys(kind for kind, *_ in named))
    used = list(dict.fromkeys(name for _, *pair in named for name in pair))
    groups = [np.flatnonzero((of_kind == kind) | (kind == ALL)) for kind in named_kinds]
    told = [predicted(scores[name], halves) for name in used]
    enough = max(resamples, 200 * len(named))  # the least p, corrected, is 0.01
    spread = resampled(told, differences.T, groups, seed, enough)
    each, rows = {name: lds(scores[name], halves, differences) for name in used}, []
    for kind, a, b in named:
        g = named_kinds.index(kind)
        drawn = spread[used.index(a), g] - spread[used.index(b), g]
        low, high = np.percentile(drawn, [2.5, 97.5])
        row = (kind, a, b, (each[a] - each[b])[groups[g]].mean(), low, high, two_sided(drawn))
        rows.append(dict(zip(columns, row)))
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table.p.to_numpy())
    return table.assign(apart=table.p_holm < 0.05)
