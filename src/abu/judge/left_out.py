"""Leave-K-out: how far queries' losses rise and their pictures stray without the images that each
method named, beside what a signal, another seed and batching do."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from abu.judge.deviations import deviations, signal_to_noise, summary


@dataclass(frozen=True)
class LeftOut:
    """What retrainings say of removals.

    ``deviations``: those of ``abu.judge.deviations`` that a removal was meant for; ``found``: by K,
    its ``summary``; ``by_kind``: of the largest K, (kind, method); ``signal``: rise of the loss of
    each query without its right images (``right``), without as many others (``random``), and how
    many ``standard deviations`` of those lie between; ``floor``: means of what another seed alone
    does; ``batching``: rise of the loss of a query without its own images ``alone`` and without
    everybody's (``batched``), (method, k, query). Each may be empty.
    """

    deviations: pd.DataFrame
    found: dict[int, pd.DataFrame]
    by_kind: pd.DataFrame
    signal: pd.DataFrame
    floor: pd.Series
    batching: pd.DataFrame

    @property
    def table(self) -> pd.DataFrame:
        """All of ``found``, (k, method)."""
        none = pd.MultiIndex.from_tuples([], names=["k", "method"])
        return (
            pd.concat(self.found, names=["k"])
            if self.found
            else pd.DataFrame(columns=["loss"], index=none)
        )

    @property
    def metrics(self) -> dict[str, dict]:
        """The same in numbers, of what there is."""
        metrics = {}
        if len(self.signal):
            sigma = self.signal["standard deviations"]
            share = {"share of queries above 3 sd": float((sigma >= 3).mean())}
            metrics["signal"] = share | {"median sd": float(sigma.median())}
        if len(self.floor):
            metrics["floor"] = self.floor.to_dict()
        for k, table in self.found.items():
            own = table[[name for name in table if not name.startswith("raw_")]]
            metrics[f"k={k}"] = {method: row.dropna().to_dict() for method, row in own.iterrows()}
        if len(self.batching):
            metrics["batching"] = self.batching.mean().to_dict()
        return metrics


def left_out_of(
    models: pd.DataFrame,
    queries: pd.DataFrame,
    measured: dict[str, np.ndarray],
    seed: int,
    groups: dict[str, list[str]],
    signal: list[str],
) -> LeftOut:
    """What retrainings say of removals; the first four arguments are those of ``deviations``.

    ``groups``: kinds of queries whose images were removed together (empty: each query's apart);
    ``signal``: kinds whose right images were removed.
    """
    table = deviations(models, queries, measured, seed)
    meant = [
        row.kind in groups[row.group]
        if row.group in groups
        else row.group in ("every query", f"query {row.query}")
        for row in table[["group", "kind", "query"]].itertuples()
    ]
    table = table[meant]
    alone = table.group.str.startswith("query ") & bool(groups)  # without groups every query was
    outs = table[(table.k > 0) & ~alone]
    found = {int(k): summary(part) for k, part in outs.groupby("k")}
    by_kind = pd.DataFrame(columns=["kind", "method", "loss"])
    if found:
        most = outs[outs.k == max(found)]
        parts = {kind: summary(part) for kind, part in most.groupby("kind", sort=False)}
        by_kind = pd.concat(parts, names=["kind"])
    both = outs[outs.seed == seed].groupby(["method", "k", "query"]).loss.mean().rename("batched")
    single = table[alone].set_index(["method", "k", "query"]).loss.rename("alone")
    other = table[(table.method == "none") & (table.seed != seed)]
    floor = other.groupby("query")[[f"raw_{name}" for name in measured]].mean()
    return LeftOut(
        table,
        found,
        by_kind,
        signal_of(table[(table.k == 0) & table.kind.isin(signal)]),
        floor.mean() if len(floor) else pd.Series(dtype=float),
        single.to_frame().join(both),
    )


def pictures_without(
    models: pd.DataFrame, queries: list, pictures: np.ndarray, seed: int, k: int
) -> dict[str, np.ndarray]:
    """By name, what retrainings draw for each query, [Q, 3, H, W]: with nothing removed under
    another seed, and, under ``seed``, without the ``k`` images of each method: a query's own
    removal, where it has one, or everybody's. ``pictures``: [models, Q, 3, H, W]."""
    others = models.index[(models.method == "none") & (models.seed != seed)]
    drawn = {"nothing removed, another seed": pictures[others[0]]} if len(others) else {}
    asked = models[(models.k == k) & (models.draw == 0) & (models.seed == seed)]
    for method, part in asked.groupby("method", sort=False):
        own = dict(zip(part.group, part.index))
        rows = [own.get(f"query {query}", part.index[0]) for query in queries]
        drawn[f"without {method}"] = pictures[rows, range(len(queries))]
    return drawn


def signal_of(table: pd.DataFrame) -> pd.DataFrame:
    """``signal`` of ``LeftOut``, by query; empty for less than two random removals."""
    asked = table[table.method.isin(["right", "random"])]
    if asked[asked.method == "random"].draw.nunique() < 2:
        return pd.DataFrame()
    by = asked.pivot_table(index="query", columns=["method", "draw"], values="loss", sort=False)
    right, random = by["right"][0], by["random"]
    sigma = signal_to_noise(right.to_numpy(), random.to_numpy().T)
    means = {"right": right, "random": random.mean(axis=1), "standard deviations": sigma}
    return pd.DataFrame(means, index=by.index)
