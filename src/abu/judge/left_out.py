"""Leave-K-out: how far queries' losses rise and their pictures stray without the images that each
method named, beside what another seed does."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from abu.judge.bank import SIDES, Bank, Model
from abu.judge.lds import predicted
from abu.judge.sharpen import sharpen
from abu.judge.verdict import Verdict

MEASURES = ("loss", "mse", "clip")  # clip is a similarity, so removal lowers it


@dataclass(frozen=True)
class LeftOut:
    """What retrainings say of removals.

    ``deviations``: those that a removal was meant for; ``by_k``: their ``summary`` by K;
    ``by_kind``: of the largest K, (kind, method); ``floor``: means of what another seed alone does.
    Each may be empty.
    """

    deviations: pd.DataFrame
    by_k: dict[int, pd.DataFrame]
    by_kind: pd.DataFrame
    floor: pd.Series

    @property
    def table(self) -> pd.DataFrame:
        """All of ``by_k``, (k, method)."""
        if not self.by_k:
            none = pd.MultiIndex.from_tuples([], names=["k", "method"])
            return pd.DataFrame(columns=["loss"], index=none)
        return pd.concat(self.by_k, names=["k"])

    @property
    def metrics(self) -> dict[str, dict]:
        """The same in numbers, of what there is."""
        metrics = {}
        if len(self.floor):
            metrics["floor"] = self.floor.to_dict()
        for k, table in self.by_k.items():
            net = table[[name for name in table if not name.startswith("raw_")]]
            metrics[f"k={k}"] = {method: row.dropna().to_dict() for method, row in net.iterrows()}
        return metrics


def strayed(
    pictures: np.ndarray, own: int, embed: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, np.ndarray]:
    """How far pictures, float32 [R, Q, 3, H, W] in [0, 1] of R models, stray from those of model
    number ``own``, float32 [R, Q] each: ``mse``, and ``clip``, the cosine similarity of what
    ``embed`` makes of pixels [B, 3, H, W]."""
    made = embed(torch.from_numpy(pictures).flatten(0, 1)).reshape(*pictures.shape[:2], -1)
    near = torch.cosine_similarity(made, made[own][None], dim=-1).numpy()
    return {"mse": ((pictures - pictures[own]) ** 2).mean((2, 3, 4)), "clip": near}


def deviations(
    models: pd.DataFrame, queries: pd.DataFrame, measured: dict[str, np.ndarray], seed: int
) -> pd.DataFrame:
    """One row for each model and query: ``raw_<measure>``, against the model in question, and
    ``<measure>``, against the model of the same seed from which nothing was removed (its floor),
    so that chance they share is subtracted.

    ``models``: method, k, draw, seed, group, a row for each of the R models; ``measured``: [R, Q]
    by name; ``seed``: of the model in question. Raises ValueError where the model without removal
    is missing, FloatingPointError for a measure that is not finite.
    """
    if bad := [name for name, values in measured.items() if not np.isfinite(values).all()]:
        raise FloatingPointError(f"not every {' and '.join(bad)} of the queries is finite")
    nothing = {row.seed: index for index, row in models.iterrows() if row.method == "none"}
    if lacking := {*models.seed, seed} - nothing.keys():
        raise ValueError(f"no model without removal for seeds {sorted(lacking)}")
    table = models.reset_index(names="model").merge(queries[["query", "kind"]], how="cross")
    floor = [nothing[s] for s in models.seed]
    for name, values in measured.items():
        table[f"raw_{name}"] = (values - values[nothing[seed]]).ravel()
        table[name] = (values - values[floor]).ravel()
    return table


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over queries of every measure, by method, indexed by method and
    sorted by loss. Queries of one retrained model are not independent of each other, so nothing is
    tested.

    ``table``: rows of ``deviations`` for one K; draws are averaged first, then, for the means, the
    seeds that every method has (all, where none is common), so that means compare; ``seeds``: how
    many went into them.
    """
    columns = [c for name in MEASURES for c in (f"raw_{name}", name) if c in table]
    pairs = table.groupby(["method", "query", "seed"])[columns].mean()
    seeds = [set(rows.seed) for _, rows in table.groupby("method")]
    common = set.intersection(*seeds) or set(table.seed)
    queries = pairs[pairs.index.isin(common, level="seed")].groupby(["method", "query"]).mean()
    by_method = queries.groupby("method")
    means = by_method.mean().join(by_method.sem().add_suffix("_se"))
    means["seeds"] = len(common)
    means["images"] = table.groupby("method").images.mean()
    return means.sort_values("loss", ascending=False)


def left_out_of(
    models: pd.DataFrame,
    queries: pd.DataFrame,
    measured: dict[str, np.ndarray],
    seed: int,
    groups: dict[str, list[str]],
) -> LeftOut:
    """What retrainings say of removals; the first four arguments are those of ``deviations``.

    ``groups``: kinds of queries whose images were removed together (empty: each query's apart).
    """
    table = deviations(models, queries, measured, seed)
    meant = [
        row.group in ("every query", f"query {row.query}") or row.kind in groups.get(row.group, ())
        for row in table[["group", "kind", "query"]].itertuples()
    ]
    table = table[meant]
    outs = table[table.k > 0]
    by_k = {int(k): summary(rows) for k, rows in outs.groupby("k")}
    by_kind = pd.DataFrame(columns=["kind", "method", "loss"])
    if by_k:
        most = outs[outs.k == max(by_k)]
        parts = {kind: summary(rows) for kind, rows in most.groupby("kind", sort=False)}
        by_kind = pd.concat(parts, names=["kind"])
    other = table[(table.method == "none") & (table.seed != seed)]
    floor = other.groupby("query")[[f"raw_{name}" for name in measured]].mean()
    return LeftOut(table, by_k, by_kind, floor.mean() if len(floor) else pd.Series(dtype=float))


def pictures_without(
    models: pd.DataFrame,
    queries: pd.DataFrame,
    pictures: np.ndarray,
    seed: int,
    k: int,
    groups: dict[str, list[str]],
) -> dict[str, np.ndarray]:
    """By name, what retrainings draw for each query, [Q, 3, H, W]: with nothing removed under
    another seed, and, under ``seed``, without the ``k`` images of each method: a query's own
    removal, where it has one, or that of the group which its kind is in, or everybody's.
    ``queries``: query, kind; ``pictures``: [models, Q, 3, H, W]; ``groups`` as in
    ``left_out_of``."""
    group_of = {kind: name for name, kinds in groups.items() for kind in kinds}
    others = models.index[(models.method == "none") & (models.seed != seed)]
    drawn = {"nothing removed, another seed": pictures[others[0]]} if len(others) else {}
    without = models[(models.k == k) & (models.draw == 0) & (models.seed == seed)]
    for method, runs in without.groupby("method", sort=False):
        row_of = dict(zip(runs.group, runs.index))
        rows = [
            row_of.get(f"query {row.query}", row_of.get(group_of.get(row.kind), runs.index[0]))
            for row in queries.itertuples()
        ]
        drawn[f"without {method}"] = pictures[rows, range(len(queries))]
    return drawn


def pictures_by_halves(
    bank: Bank, verdict: Verdict, scores: np.ndarray, sharpness: float | None, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures like the ``own`` ones, float32 [Q, 3, H, W] in [0, 1], in which the queries that the
    bank was asked about are as drawn, enlarged, by the half that has most of what ``scores``
    [Q, N], sharpened, name for each, and by the half that has least. Raises ValueError where the
    bank has no halves."""
    if verdict.seed is None:
        raise ValueError("the bank has no pair of halves")
    told = predicted(sharpen(scores[verdict.known], sharpness), verdict.halves)
    best = np.abs(told).argmax(1)
    lower = (told[np.arange(len(best)), best] > 0).astype(int)  # the side with the lower loss
    most, least = own.copy(), own.copy()
    for view, sides in ((most, lower), (least, 1 - lower)):
        halves = [(verdict.pairs[place], SIDES[side]) for place, side in zip(best, sides)]
        names = [Model(verdict.seed, (), *half).name for half in halves]
        small = np.stack([bank.drawn(name)[row] for name, row in zip(names, verdict.rows)])
        nearest = np.arange(own.shape[-1]) * small.shape[-1] // own.shape[-1]
        view[verdict.known] = small[..., nearest, :][..., nearest] / np.float32(255)
    return most, least
