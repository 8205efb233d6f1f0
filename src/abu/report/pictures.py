"""Grids of pictures, each with its title, none wider than a page."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from abu.report.style import DPI, GREEN, INK, SMALL, WIDTH

LINE, GAP = 1.25 * SMALL / 72, 0.06  # inches: a line of a title, between pictures
NAMES = 1.05  # inches: the names of rows


def place(axis, pixels: np.ndarray, title: str = "", frame: str | None = None) -> None:
    """One picture [3, H, W] in [0, 1] with its title, framed in a colour if given."""
    axis.set_axis_on()
    axis.imshow(np.clip(np.asarray(pixels, np.float32).transpose(1, 2, 0), 0, 1))
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=SMALL, pad=2.5, linespacing=1)
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set(visible=bool(frame), color=frame, linewidth=2)


def frames(rows: int, columns: int, names: float, above: list[int], side: float) -> tuple:
    """A figure and its axes [rows, columns], squares of ``side`` inches; ``names`` inches are left
    free before the first column, ``above`` [rows] lines over each row."""
    side = round(side * DPI) / DPI  # whole pixels
    width = names + columns * (side + GAP)
    heights = [side + GAP + lines * LINE + (GAP if lines else 0) for lines in above]
    height, y = sum(heights), 0.0
    figure, axes = plt.figure(figsize=(width, height)), np.empty((rows, columns), object)
    for r, c in np.ndindex(rows, columns):
        y += heights[r] if c == 0 else 0
        box = (names + c * (side + GAP), height - y + GAP / 2, side, side)
        axes[r, c] = figure.add_axes((box[0] / width, box[1] / height, side / width, side / height))
        axes[r, c].set_axis_off()
    return figure, axes


def name_row(axis, name: str) -> None:
    """A name before the first picture of a row."""
    where = {"transform": axis.transAxes, "ha": "right", "va": "center"}
    axis.text(-0.08, 0.5, wrap(name, 17), fontsize=SMALL, **where)


def gallery(pictures, titles=None, columns: int = 8, size: float | None = None) -> Figure:
    """Pictures [N, 3, H, W] in rows of ``columns``, ``size`` inches each where the page has room
    for it."""
    side = min(size or 1, WIDTH / columns - GAP)
    rows, letters = -(-len(pictures) // columns), int(side * 72 / (0.56 * SMALL))
    words = [wrap(title, letters) for title in titles] if titles else [""] * len(pictures)
    lines = [word.count("\n") + bool(word) for word in words]
    above = [max(lines[r * columns : (r + 1) * columns]) for r in range(rows)]
    figure, axes = frames(rows, columns, 0, above, side)
    for axis, picture, word in zip(axes.flat, pictures, words):
        place(axis, picture, word)
    return figure


def strips(queries, names, tops, scores, right, size: float = 0.66, regions=None) -> Figure:
    """One row a query: its picture [3, H, W], then its top K ``tops`` [Q, K, 3, H, W], each with
    its score [Q, K], ``size`` inches where the page has room for it.

    Pictures for which ``right`` [Q, K] is true are framed in green. What lies outside a query's
    region (``regions``: weights [h, w], or None for the whole picture) is faded. The picture of
    the row above is not shown again.
    """
    count, k = np.shape(scores)
    side = min(size, (WIDTH - NAMES) / (k + 1) - GAP)
    figure, axes = frames(count, k + 1, NAMES, [1] * count, side)
    before = None
    for q in range(count):
        shown = np.asarray(faded(queries[q], regions[q] if regions else None))
        name_row(axes[q, 0], names[q])
        if before is None or not np.array_equal(shown, before):
            place(axes[q, 0], shown, "", INK)
        before = shown
        for n in range(k):
            frame = GREEN if right[q][n] else None
            place(axes[q, n + 1], tops[q][n], f"{scores[q][n]:.2g}", frame)
    return figure


def grid(pictures, row_names: list[str], column_names: list[str], size: float = 0.66) -> Figure:
    """Pictures [R, C, 3, H, W] with a name for each row and column, ``size`` inches each where the
    page has room for it."""
    rows, columns = np.shape(pictures)[:2]
    side = min(size, (WIDTH - NAMES) / columns - GAP)
    heads = [wrap(name, int(side * 72 / (0.56 * SMALL))) for name in column_names]
    above = [max(head.count("\n") for head in heads) + 1] + [0] * (rows - 1)
    figure, axes = frames(rows, columns, NAMES, above, side)
    for r, c in np.ndindex(rows, columns):
        place(axes[r, c], pictures[r][c], heads[c] if r == 0 else "")
        if c == 0:
            name_row(axes[r, c], row_names[r])
    return figure


def faded(picture, region) -> np.ndarray:
    """A picture [3, H, W] that is nearly white outside a region, weights [h, w] of a coarser grid;
    None: as it is."""
    if region is None:
        return picture
    scale = [side // places for side, places in zip(np.shape(picture)[1:], np.shape(region))]
    weights = np.kron(region, np.ones(scale, np.float32))
    return 1 - (1 - np.asarray(picture, np.float32)) * (0.15 + 0.85 * weights)


def wrap(text: str, width: int) -> str:
    """Text broken between words, in lines of at most ``width`` letters where words allow."""
    return textwrap.fill(str(text), width, break_long_words=False, break_on_hyphens=False)
