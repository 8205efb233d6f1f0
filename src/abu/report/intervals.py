"""Means with intervals, a row a method, panels side by side."""

import numpy as np
from matplotlib.figure import Figure

from abu.report.style import CEILING, CHANCE, GREY, INK, MEDIUM, look, panels

ROW = 0.165  # inches


def bars(axis, names, centre, below, above, places, methods: bool = True) -> None:
    """A dot with its interval for each name, in its method's colour and marker."""
    for name, x, low, high, y in zip(names, centre, below, above, places):
        colour, _, marker = look(name) if methods else (INK, "-", "o")
        lengths = [[max(low, 0)], [max(high, 0)]]
        options = {"color": colour, "markersize": 4, "elinewidth": 1.2}
        axis.errorbar([x], [y], xerr=lengths, fmt=marker, **options)


def name_rows(axes, names: list[str]) -> None:
    """One row for each name, from above."""
    for axis in axes:
        ends = (len(names) - 0.5, -0.5)
        axis.set(yticks=range(len(names)), yticklabels=names, ylim=ends)
        axis.locator_params(axis="x", nbins=4)


def leaderboard(table, ceiling: dict[str, float], label: str) -> Figure:
    """Linear datamodelling score of each method, a panel for each kind of query, best of all first:
    ``table`` has method, kind, lds, low, high, and ``raw``, of scores that were not sharpened (a
    ring); ``ceiling`` a line in each kind that it has, beside that of chance."""
    kinds, order = list(dict.fromkeys(table.kind)), table.groupby("kind", sort=False)
    first = table[table.kind == kinds[0]].sort_values("lds", ascending=False).method.tolist()
    figure, axes = panels(len(kinds), ROW * len(first) + 0.9, sharey=True, sharex=True)
    for axis, (kind, rows) in zip(axes, order):
        rows, y = rows.set_index("method").loc[first], range(len(first))
        bars(axis, first, rows.lds, rows.lds - rows.low, rows.high - rows.lds, y)
        axis.plot(rows.raw, y, "o", markersize=4, fillstyle="none", color=GREY, zorder=1)
        axis.axvline(0, **CHANCE)
        if kind in ceiling:
            axis.axvline(ceiling[kind], **CEILING)
        axis.set_title(f"{kind}\n({int(rows.queries.max())})")
    name_rows(axes, first)
    axes[0].set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    figure.supxlabel(label, fontsize=MEDIUM)
    return figure


def intervals(
    tables: dict, value: str, error: str | list[str], label: str, methods: bool = True
) -> Figure:
    """Means with error bars from tables indexed by method, one panel a table, the methods in the
    first table's order; a row of ``chance`` becomes a line.

    ``error``: a column, or the two columns of lengths below and above; ``methods``: rows are named
    by methods.
    """
    order = [name for name in next(iter(tables.values())).index if name != "chance"]
    figure, axes = panels(len(tables), ROW * len(order) + 0.8, sharey=True)
    for axis, (name, table) in zip(axes, tables.items()):
        rows = table.drop(index="chance", errors="ignore")
        lengths = np.atleast_2d(rows[error].to_numpy(float).T)
        places = [order.index(method) for method in rows.index]
        bars(axis, rows.index, rows[value], lengths[0], lengths[-1], places, methods)
        axis.axvline(table[value].get("chance", 0), **CHANCE)
        axis.set_title(name)
    name_rows(axes, order)
    figure.supxlabel(label, fontsize=MEDIUM)
    return figure
