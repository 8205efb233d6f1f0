"""What retraining says: each query's loss and picture without some images, against the same without
any removal."""

import numpy as np
import pandas as pd

from abu.judge.intervals import standard_error

# of a query under a model; clip is a similarity, so removal lowers it
MEASURES = ("loss", "mse", "clip")


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
    table = models.loc[models.index.repeat(len(queries))].reset_index(names="model")
    table["query"] = np.tile(queries["query"], len(models))
    table["kind"] = np.tile(queries["kind"], len(models))
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
    error = lambda values: standard_error(values) if len(values) > 1 else np.nan
    by_method = queries.groupby("method")
    means = by_method.mean().join(by_method.agg(error).add_suffix("_se"))
    means["seeds"] = len(common)
    means["images"] = table.groupby("method").images.mean()
    return means.sort_values("loss", ascending=False)
