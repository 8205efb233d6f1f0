"""Arrays in, matplotlib figures out."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

sns.set_theme(style="whitegrid", rc={"figure.dpi": 90, "font.size": 9, "axes.titlesize": 8})


def show(axis, pixels: np.ndarray, title: str = "", frame: str | None = None) -> None:
    """One picture [3, H, W] in [0, 1] with its title, framed in a colour if given."""
    axis.imshow(np.clip(np.asarray(pixels, np.float32).transpose(1, 2, 0), 0, 1))
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=6)
    for spine in axis.spines.values():
        spine.set(visible=bool(frame), color=frame, linewidth=2.5)


def gallery(pictures, titles=None, columns: int = 8, size: float = 1.15) -> Figure:
    """Pictures [N, 3, H, W] in rows of ``columns``."""
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(size * columns, size * 1.25 * rows), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for index, (axis, picture) in enumerate(zip(axes.flat, pictures)):
        axis.axis("on")
        show(axis, picture, wrap(titles[index]) if titles else "")
    figure.tight_layout(pad=0.3)
    return figure


def strips(queries, names, tops, scores, right, size: float = 0.95, regions=None) -> Figure:
    """One row a query: its picture [3, H, W], then its top K ``tops`` [Q, K, 3, H, W], each with
    its score [Q, K].

    Pictures for which ``right`` [Q, K] is true are framed in green. What lies outside a query's
    region (``regions``: weights [h, w], or None for the whole picture) is faded.
    """
    count, k = np.shape(scores)
    figure, axes = plt.subplots(
        count, k + 1, figsize=(size * (k + 1.8), 1.14 * size * count), squeeze=False
    )
    for q in range(count):
        show(axes[q, 0], faded(queries[q], regions[q] if regions else None), "", "black")
        axes[q, 0].set_ylabel(wrap(names[q], 14), fontsize=6, rotation=0, ha="right", va="center")
        for place in range(k):
            frame = "tab:green" if right[q][place] else None
            show(axes[q, place + 1], tops[q][place], f"{scores[q][place]:.2g}", frame)
    figure.tight_layout(pad=0.3)
    return figure


def faded(picture, region) -> np.ndarray:
    """A picture [3, H, W] that is nearly white outside a region, weights [h, w] of a coarser grid;
    None: as it is."""
    if region is None:
        return picture
    scale = [side // places for side, places in zip(np.shape(picture)[1:], np.shape(region))]
    weights = np.kron(region, np.ones(scale, np.float32))
    return 1 - (1 - np.asarray(picture, np.float32)) * (0.15 + 0.85 * weights)


def curves(
    x,
    series: dict[str, np.ndarray],
    x_label: str,
    y_label: str,
    log: bool = False,
    x_log: bool = False,
) -> Figure:
    """Named curves over one axis."""
    figure, axis = plt.subplots(figsize=(6, 3 if len(series) < 8 else 4.5))
    if len(series) > 10:
        axis.set_prop_cycle(color=sns.color_palette("tab20", len(series)))
    for name, values in series.items():
        axis.plot(x, values, label=name)
    axis.set(
        xlabel=x_label,
        ylabel=y_label,
        yscale="log" if log else "linear",
        xscale="log" if x_log else "linear",
    )
    axis.legend(**({} if len(series) < 8 else {"fontsize": 6, "ncols": 2}))
    figure.tight_layout()
    return figure


def distributions(values: dict[str, np.ndarray], x_label: str, log: bool = False) -> Figure:
    """Histograms of named samples, one over the other, as densities."""
    figure, axis = plt.subplots(figsize=(6, 3))
    sns.histplot(
        values, ax=axis, stat="density", common_norm=False, element="step", bins=60, log_scale=log
    )
    axis.set(xlabel=x_label)
    figure.tight_layout()
    return figure


def matrix(values: np.ndarray, names: list[str], x_label: str, y_label: str, label: str) -> Figure:
    """A square table as colours."""
    figure, axis = plt.subplots(figsize=(7, 6))
    ticks = {"xticklabels": names, "yticklabels": names}
    sns.heatmap(values, ax=axis, center=0, cmap="vlag", cbar_kws={"label": label}, **ticks)
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.tick_params(labelsize=6)
    figure.tight_layout()
    return figure


def wrap(text: str, width: int = 16) -> str:
    """Text broken between words."""
    lines = [""]
    for word in str(text).split():
        lines[-1:] = (
            [f"{lines[-1]} {word}".strip()]
            if len(lines[-1]) + len(word) < width
            else [lines[-1], word]
        )
    return "\n".join(line for line in lines if line)


def heatmaps(panels: dict, label: str) -> Figure:
    """Named tables (data frames with named axes) side by side, on one scale, numbers written in."""
    low, high = (
        min(p.min().min() for p in panels.values()),
        max(p.max().max() for p in panels.values()),
    )
    figure, axes = plt.subplots(1, len(panels), figsize=(2.5 * len(panels), 2.4), squeeze=False)
    for axis, (name, panel) in zip(axes[0], panels.items()):
        panel = panel.rename(index="{:g}".format, columns="{:g}".format)
        sns.heatmap(
            panel,
            ax=axis,
            vmin=low,
            vmax=high,
            annot=True,
            fmt=".2f",
            cbar=False,
            annot_kws={"size": 7},
        )
        axis.set_title(name)
        axis.tick_params(labelsize=6)
    figure.supylabel(label, fontsize=7)
    figure.tight_layout()
    return figure


def leaderboard(table, ceiling: dict[str, float], label: str) -> Figure:
    """Linear datamodelling score of each method, a panel for each kind of query, best of all first:
    ``table`` has method, kind, lds, low, high, and ``raw``, of scores that were not sharpened (a
    ring); ``ceiling`` a line in each kind that it has."""
    kinds, order = list(dict.fromkeys(table.kind)), table.groupby("kind", sort=False)
    first = table[table.kind == kinds[0]].sort_values("lds").method.tolist()
    size = (2.2 * len(kinds) + 1.5, 0.24 * len(first) + 1)
    figure, axes = plt.subplots(1, len(kinds), figsize=size, sharey=True, squeeze=False)
    for axis, (kind, rows) in zip(axes[0], order):
        rows, y = rows.set_index("method").loc[first], range(len(first))
        error = np.maximum([rows.lds - rows.low, rows.high - rows.lds], 0)
        axis.errorbar(rows.lds, y, xerr=error, fmt="o", markersize=3, elinewidth=1)
        axis.plot(rows.raw, y, "o", markersize=4, fillstyle="none", color="grey")
        axis.axvline(0, color="grey", linewidth=1, linestyle=":")
        if kind in ceiling:
            axis.axvline(ceiling[kind], color="black", linewidth=1, linestyle="--")
        axis.set(title=f"{kind} ({int(rows.queries.max())})", yticks=y, yticklabels=first)
    figure.supxlabel(label, fontsize="medium")
    figure.tight_layout()
    return figure


def intervals(tables: dict, value: str, error: str | list[str], label: str) -> Figure:
    """Means with error bars from tables indexed by method, one panel a table, the methods in the
    first table's order.

    ``error``: a column, or the two columns of lengths below and above."""
    order = list(next(iter(tables.values())).index)
    size = (1.2 + 1.8 * len(tables), 0.9 + 0.2 * len(order))
    figure, axes = plt.subplots(1, len(tables), figsize=size, sharey=True, squeeze=False)
    for axis, (name, table) in zip(axes[0], tables.items()):
        y = [order.index(method) for method in table.index]
        axis.errorbar(
            table[value], y, xerr=table[error].to_numpy().T, fmt="o", markersize=3.5, linewidth=1
        )
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set(
            title=name, yticks=range(len(order)), yticklabels=order, ylim=(-0.5, len(order) - 0.5)
        )
        axis.tick_params(labelsize=7)
    axes[0, 0].invert_yaxis()
    figure.supxlabel(label, fontsize=8)
    figure.tight_layout()
    return figure


def trends(table, value: str, error: str, label: str) -> Figure:
    """Means with error bars over K from a table indexed by (k, method), one line a method."""
    figure, axis = plt.subplots(figsize=(6, 3.4))
    for method, part in table.groupby(level="method", sort=False):
        part = part.droplevel("method").sort_index()
        axis.errorbar(
            part.index,
            part[value],
            yerr=part[error],
            marker="o",
            markersize=3,
            linewidth=1,
            capsize=2,
            label=method,
        )
    axis.set(xlabel="K: images removed for each query", ylabel=label)
    axis.legend(fontsize=6, ncols=2)
    figure.tight_layout()
    return figure


def grid(pictures, row_names: list[str], column_names: list[str]) -> Figure:
    """Pictures [R, C, 3, H, W] with a name for each row and column."""
    rows, columns = np.shape(pictures)[:2]
    figure, axes = plt.subplots(rows, columns, figsize=(columns, 1.05 * rows), squeeze=False)
    for r, c in np.ndindex(rows, columns):
        show(axes[r, c], pictures[r][c], wrap(column_names[c], 13) if r == 0 else "")
        if c == 0:
            axes[r, c].set_ylabel(
                wrap(row_names[r], 13), fontsize=6, rotation=0, ha="right", va="center"
            )
    figure.tight_layout(pad=0.3)
    return figure


def against(x, y, names: list[str], x_label: str, y_label: str, factor: float = 2.0) -> Figure:
    """Named points on logarithmic axes, with the line on which x equals y and the band within
    ``factor`` of it."""
    figure, axis = plt.subplots(figsize=(5.5, 5))
    ends = np.array([min(*x, *y) / factor, max(*x, *y) * factor])
    axis.fill_between(ends, ends / factor, ends * factor, alpha=0.15)
    axis.plot(ends, ends, linewidth=1)
    axis.scatter(x, y, s=14, color="black", zorder=2)
    for place, name in zip(zip(x, y), names):
        axis.annotate(name, place, xytext=(4, -2), textcoords="offset points", fontsize=6)
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel=x_label, ylabel=y_label)
    figure.tight_layout()
    return figure


def agreement(x, y, x_label: str, y_label: str) -> Figure:
    """Points, and the line on which x equals y."""
    figure, axis = plt.subplots(figsize=(4.5, 4))
    ends = [min(*x, *y), max(*x, *y)]
    axis.plot(ends, ends, linewidth=1, color="grey")
    axis.scatter(x, y, s=10)
    axis.set(xlabel=x_label, ylabel=y_label)
    figure.tight_layout()
    return figure
