"""Curves: named values over one axis."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from abu.report.style import CHANCE, WIDTH, look


def drawn_as(method: str) -> dict:
    """Line options of a method."""
    colour, dash, _ = look(method)
    return {"color": colour, "linestyle": dash}


def beside(axis, count: int) -> None:
    """A legend, beside the axis where it has many names."""
    axis.legend(**({} if count < 8 else {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}))


def curves(
    x,
    series: dict[str, np.ndarray],
    x_label: str,
    y_label: str,
    log: bool = False,
    x_log: bool = False,
    methods: bool = False,
    chance=None,
) -> Figure:
    """Named curves over one axis; ``methods``: the names are those of methods; ``chance``: values
    of a line that ignorance would draw, or None."""
    size = (WIDTH, 2.6 if len(series) < 8 else 3.4)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    for name, values in series.items():
        axis.plot(x, values, label=name, **(drawn_as(name) if methods else {}))
    if chance is not None:
        axis.plot(x, chance, label="chance", **CHANCE)
    scales = {"yscale": "log" if log else "linear", "xscale": "log" if x_log else "linear"}
    axis.set(xlabel=x_label, ylabel=y_label, **scales)
    if x_log:
        axis.xaxis.set_major_formatter("{x:g}")
        if len(x) < 8:
            axis.set_xticks(x, minor=False)
            axis.set_xticks([], minor=True)
    if len(series) > 1 or chance is not None:
        beside(axis, len(series))
    return figure


def trends(table, value: str, error: str, label: str) -> Figure:
    """Means with error bars over K from a table indexed by (k, method), one line a method."""
    figure, axis = plt.subplots(figsize=(WIDTH, 3.4), layout="constrained")
    parts = dict(list(table.groupby(level="method", sort=False)))
    for method, over_k in parts.items():
        over_k = over_k.droplevel("method").sort_index()
        options = drawn_as(method) | {"marker": look(method)[2], "markersize": 4, "capsize": 2}
        axis.errorbar(over_k.index, over_k[value], yerr=over_k[error], label=method, **options)
    axis.axhline(0, **CHANCE)
    axis.set(xlabel="K: images removed for each query", ylabel=label)
    beside(axis, len(parts))
    return figure
