"""How samples are spread."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from abu.report.style import BLUE, INK, WIDTH

FEW = 6
"""Histograms that can be told apart when one lies over the other."""


def distributions(values: dict[str, np.ndarray], x_label: str, log: bool = False) -> Figure:
    """Histograms of named samples, one over the other, as densities; of more than a few, a box
    each: quartiles, and whiskers to the 5th and 95th percentile."""
    if len(values) > FEW:
        return boxes(values, x_label, log)
    figure, axis = plt.subplots(figsize=(WIDTH, 2.6), layout="constrained")
    style = {"stat": "density", "common_norm": False, "element": "step", "bins": 60}
    sns.histplot(values, ax=axis, log_scale=log, legend=len(values) > 1, **style)
    axis.set(xlabel=x_label, ylabel="density")
    return figure


def boxes(values: dict[str, np.ndarray], x_label: str, log: bool) -> Figure:
    """A box for each sample, from above."""
    size = (WIDTH, 0.17 * len(values) + 0.6)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    style = {"facecolor": BLUE, "alpha": 0.5}
    axis.boxplot(
        [np.ravel(sample) for sample in values.values()],
        orientation="horizontal",
        tick_labels=list(values),
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        boxprops=style,
        medianprops={"color": INK},
    )
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.set(xlabel=x_label, xscale="log" if log else "linear")
    return figure
