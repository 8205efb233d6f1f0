"""How samples are spread."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from abu.report.style import BLUE, WIDTH

FEW = 6
"""Histograms that can be told apart when one lies over the other."""


def distributions(values: dict[str, np.ndarray], x_label: str, log: bool = False) -> Figure:
    """Histograms of named samples, one over the other, as densities; of more than a few, a box
    each: quartiles, and whiskers to the 5th and 95th percentile."""
    many = len(values) > FEW
    size = (WIDTH, 0.17 * len(values) + 0.6 if many else 2.6)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    if many:
        style = {"orient": "h", "whis": (5, 95), "showfliers": False, "color": BLUE}
        sns.boxplot(values, ax=axis, log_scale=log, **style)
    else:
        style = {"stat": "density", "common_norm": False, "element": "step", "bins": 60}
        sns.histplot(values, ax=axis, log_scale=log, legend=len(values) > 1, **style)
    axis.set(xlabel=x_label, ylabel="" if many else "density")
    return figure
