"""Points: pairs of numbers that should be equal."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from abu.report.style import BLUE, GREY, INK, SMALL


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
