"""Queries, each with the images that stand first by its scores."""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from abu.judge.ranking import rank
from abu.report.pictures import strips


def answers(
    pictures, names, look: Callable, scores: np.ndarray, right: np.ndarray, top: int, **options
) -> Figure:
    """``strips`` of queries, ``pictures`` [Q, 3, H, W], and the ``top`` images of each by scores
    [Q, N], those that are ``right``, bool [Q, N], framed; ``look(i)``: pixels of image number i."""
    order = rank(scores)[:, :top]
    tops = [[look(i) for i in row] for row in order]
    shown = (np.take_along_axis(values, order, 1) for values in (scores, right))
    return strips(pictures, names, tops, *shown, **options)
