"""Tables as colours."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from abu.report.style import MEDIUM, SMALL, VERMILION, WIDTH, panels


def matrix(values: np.ndarray, names: list[str], x_label: str, y_label: str, label: str) -> Figure:
    """A square table as colours; of many names as many are written as have room."""
    figure, axis = plt.subplots(figsize=(WIDTH, 0.85 * WIDTH), layout="constrained")
    every = -(-len(names) // 36)
    ticks = {"xticklabels": every, "yticklabels": every}
    sns.heatmap(values, ax=axis, center=0, cmap="vlag", cbar_kws={"label": label}, **ticks)
    axis.set_xticklabels(names[::every], rotation=90)
    axis.set_yticklabels(names[::every], rotation=0)
    axis.set(xlabel=x_label, ylabel=y_label)
    return figure


def heatmaps(tables: dict, label: str) -> Figure:
    """Named tables (data frames with named axes), four a row, on one scale, numbers written in, the
    highest of a table framed."""
    values = [table.to_numpy(float) for table in tables.values()]
    ends = {"vmin": min(map(np.nanmin, values)), "vmax": max(map(np.nanmax, values))}
    figure, axes = panels(len(tables), 1.55, columns=4)
    for axis, (name, table) in zip(axes, tables.items()):
        table = table.rename(index="{:g}".format, columns="{:g}".format)
        style = {"cmap": "cividis", "cbar": False, "annot": table.map(short), "fmt": ""}
        sns.heatmap(table, ax=axis, annot_kws={"size": SMALL}, **ends, **style)
        row, column = np.unravel_index(np.nanargmax(table), table.shape)
        axis.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=VERMILION, linewidth=2))
        axis.set_title(name)
        axis.tick_params(rotation=0)
    figure.supxlabel(label, fontsize=MEDIUM)
    return figure


def short(value: float) -> str:
    """Two decimals, without the nought before them."""
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"
