"""What removing the images that each method named did: figures and a sentence."""

import pandas as pd
from matplotlib.figure import Figure

from abu.report.intervals import intervals
from abu.report.lines import trends

MEASURED = {"loss": "rise of the loss", "mse": "picture: MSE", "clip": "picture: CLIP similarity"}


def removals(table: pd.DataFrame, by_kind: pd.DataFrame) -> None:
    """Figures of means with their standard errors, by (k, method): over K, where there are several,
    and of the largest K all that is measured, and the loss ``by_kind`` of query, (kind, method)."""
    if not len(table):
        return
    sizes = table.index.unique("k")
    k, most = sizes.max(), table.loc[sizes.max()]
    if len(sizes) > 1:
        trends(table, "loss", "loss_se", MEASURED["loss"])
    of = lambda name: most[[name, f"{name}_se"]].set_axis(["mean", "error"], axis=1)
    intervals({label: of(name) for name, label in MEASURED.items()}, "mean", "error", f"K = {k}")
    kinds = {kind: rows.droplevel(0) for kind, rows in by_kind.groupby("kind", sort=False)}
    intervals({"all": most, **kinds}, "loss", "loss_se", f"rise of the loss, K = {k}")


def removed(table: pd.DataFrame, floor: pd.Series | None = None) -> str:
    """The same in words: how far a query's loss rises, by method, the most harmful first, after the
    ``floor``, what another seed alone does, where there is one."""
    said = []
    if floor is not None and len(floor):
        said.append(f"Another seed alone: {floor.round(4).to_dict()}")
    if not len(table):
        said.append("No method's images were removed.")
    for k, rows in table.groupby(level="k"):
        worst = rows.droplevel("k").sort_values("loss", ascending=False)
        each = [f"{row.Index} {row.loss:.3f} ± {row.loss_se:.3f}" for row in worst.itertuples()]
        said.append(f"Without the first {k} images a query's loss rises by: {', '.join(each)}.")
    return "\n".join(said)


def square(k: int, besides: bool) -> str:
    """What is removed in a square of ``abu.judge.latin``."""
    return f"K = {k}" + (", right images gone in every arm" if besides else "")


def squared(table: pd.DataFrame) -> Figure:
    """Rises by Latin squares, with their intervals, a panel for each (k, besides); ``table``: of
    ``abu.judge.latin.summary``."""
    ends = {"below": table.rise - table.low, "above": table.high - table.rise}
    tables = {
        square(*kind).replace(", ", ",\n"): rows.droplevel(["k", "besides"])
        for kind, rows in table.assign(**ends).groupby(level=["k", "besides"], sort=False)
    }
    return intervals(tables, "rise", ["below", "above"], MEASURED["loss"])


def harm(table: pd.DataFrame, against: str) -> str:
    """In words, whose images each square misses most, beside those of ``against``."""
    said = []
    for kind, rows in table.groupby(level=["k", "besides"], sort=False):
        best = rows.droplevel(["k", "besides"]).drop(index=against).iloc[0]
        by = f"by {best.rise:.3f} ({best.low:.3f} to {best.high:.3f})"
        times = f"{best.times:.2f} times as far as without {against}'s (p = {best.p_holm:.2g})"
        most = f"of all but {against} the loss rises most without {best.name}'s images"
        said.append(f"{square(*kind)}: {most}, {by}, {times}.")
    return "\n".join(said)
