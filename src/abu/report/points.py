"""Points: pairs of numbers that should be equal, and what a score is worth at its cost."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from abu.report.style import BLUE, CEILING, CHANCE, GREY, INK, SMALL, WIDTH, look


def against(x, y, names: list[str], x_label: str, y_label: str, factor: float = 2.0) -> Figure:
    """Named points on logarithmic axes, with the line on which x equals y and the band within
    ``factor`` of it."""
    figure, axis = plt.subplots(figsize=(6, 5), layout="constrained")
    ends = np.array([min(*x, *y) / factor, max(*x, *y) * factor])
    axis.fill_between(ends, ends / factor, ends * factor, alpha=0.15, color=BLUE)
    axis.plot(ends, ends, linewidth=1, color=GREY)
    axis.scatter(x, y, s=14, color=INK, zorder=2)
    for place, name in zip(zip(x, y), names):
        axis.annotate(name, place, xytext=(4, -2), textcoords="offset points", fontsize=SMALL)
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel=x_label, ylabel=y_label)
    return figure


def agreement(x, y, x_label: str, y_label: str) -> Figure:
    """Points, and the line on which x equals y."""
    figure, axis = plt.subplots(figsize=(4.5, 4), layout="constrained")
    ends = [min(*x, *y), max(*x, *y)]
    axis.plot(ends, ends, linewidth=1, color=GREY)
    axis.scatter(x, y, s=10, color=BLUE)
    axis.set(xlabel=x_label, ylabel=y_label)
    return figure


GAP = 0.028
"""Scores between names that stand above each other."""


def placed(table: pd.DataFrame) -> list[tuple[bool, float]]:
    """Where the name of each row (``seconds``, ``lds``; ascending) goes: whether left of its point,
    as where another point stands to the right, and at which height: its own, or above the names
    that stand there."""
    places: list[tuple[bool, float]] = []
    for nth, row in enumerate(table.itertuples()):
        beside = table.seconds.between(row.seconds * 1.05, row.seconds * 1.8)
        left = bool((beside & ((table.lds - row.lds).abs() < 0.1)).any())
        near = table[:nth].seconds.between(row.seconds / 3, row.seconds * 3)
        below = [at for (side, at), close in zip(places, near) if close and side == left]
        places.append((left, max([row.lds, *(at + GAP for at in below)])))
    return places


def worth(table: pd.DataFrame, y_label: str, ceiling: float | None = None) -> Figure:
    """What methods are worth, with intervals, against what they cost: rows by method with
    ``seconds`` a query (logarithmic axis), ``lds``, ``low`` and ``high``. What is run in other
    ways, as ``method, 5 timesteps``, is joined by a line, and its way alone is written there."""
    figure, axis = plt.subplots(figsize=(WIDTH, 5.2), layout="constrained")
    ordered = table.sort_values("lds")
    for row, (left, height) in zip(ordered.itertuples(), placed(ordered)):
        colour, _, marker = look(row.Index)
        error = [[row.lds - row.low], [row.high - row.lds]]
        style = {"color": colour, "marker": marker, "markersize": 5, "elinewidth": 1}
        axis.errorbar(row.seconds, row.lds, error, **style, capsize=0)
        name, _, way = row.Index.partition(", ")
        away, across = (0.87, "right") if left else (1.15, "left")
        line = {"arrowstyle": "-", "linewidth": 0.5, "color": GREY} if height > row.lds else None
        where = {"xytext": (row.seconds * away, height), "ha": across, "va": "center"}
        where |= {"color": colour, "fontsize": SMALL, "arrowprops": line}
        axis.annotate(way or name, (row.seconds, row.lds), **where)
    for name, ways in ordered.groupby(ordered.index.str.partition(", ").get_level_values(0)):
        along = ways.sort_values("seconds")
        axis.plot(along.seconds, along.lds, color=look(name)[0], linewidth=0.8, zorder=1)
    axis.axhline(0, **CHANCE)
    if ceiling:
        axis.axhline(ceiling, **CEILING)
    axis.set(xscale="log", xlabel="seconds a query, once all is cached", ylabel=y_label)
    return figure
