"""Means with intervals, a row a method, panels side by side."""

import numpy as np
from matplotlib.figure import Figure

from abu.report.style import CEILING, CHANCE, GREY, INK, MEDIUM, look, panels

ROW = 0.165  # inches


def leaderboard(table, ceiling: dict[str, float], label: str) -> Figure:
    """Linear datamodelling score of each method, a panel for each kind of query, best of all first:
    ``table`` has method, kind, lds, low, high, and ``raw``, of scores that were not sharpened (a
    ring); ``ceiling`` a line in each kind that it has, beside that of chance."""
    table = table.assign(below=table.lds - table.low, above=table.high - table.lds)
    kinds = {kind: rows.set_index("method") for kind, rows in table.groupby("kind", sort=False)}
    first = next(iter(kinds.values())).lds.sort_values(ascending=False).index
    titled = {f"{kind}\n({int(r.queries.max())})": r.loc[first] for kind, r in kinds.items()}
    figure = intervals(titled, "lds", ["below", "above"], label, sharex=True)
    ring = {"markersize": 4, "fillstyle": "none", "color": GREY, "zorder": 1}
    for axis, (kind, rows) in zip(figure.axes, kinds.items()):
        axis.plot(rows.raw[first], range(len(first)), "o", **ring)
        if kind in ceiling:
            axis.axvline(ceiling[kind], **CEILING)
    figure.axes[0].set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    return figure


def intervals(
    tables: dict, value: str, error: str | list[str], label: str, methods: bool = True, **shared
) -> Figure:
    """Means with error bars from tables indexed by method, one panel a table, the methods in the
    first table's order, from above, then those that others have besides; a row of ``chance``
    becomes a line.

    ``error``: a column, or the two columns of lengths below and above; ``methods``: rows are named
    by methods, and have their colours and markers.
    """
    named = dict.fromkeys(name for table in tables.values() for name in table.index)
    order = [name for name in named if name != "chance"]
    figure, axes = panels(len(tables), ROW * len(order) + 0.9, sharey=True, **shared)
    for axis, (title, table) in zip(axes, tables.items()):
        rows = table.drop(index="chance", errors="ignore")
        lengths = np.atleast_2d(rows[error].to_numpy(float).T).clip(0)
        for name, x, low, high in zip(rows.index, rows[value], lengths[0], lengths[-1]):
            colour, _, marker = look(name) if methods else (INK, "-", "o")
            style = {"fmt": marker, "color": colour, "markersize": 4, "elinewidth": 1.2}
            axis.errorbar([x], [order.index(name)], xerr=[[low], [high]], **style)
        axis.axvline(table[value].get("chance", 0), **CHANCE)
        axis.set(yticks=range(len(order)), yticklabels=order, ylim=(len(order) - 0.5, -0.5))
        axis.locator_params(axis="x", nbins=4)
        axis.set_title(title)
    figure.supxlabel(label, fontsize=MEDIUM)
    return figure
