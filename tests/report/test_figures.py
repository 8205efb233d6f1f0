"""Figures: none wider than a page, no letter too small, a colour for each method."""

import importlib.util
import io
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.text import Text
from PIL import Image

from abu import ROOT
from abu.baselines.registry import METHODS
from abu.diffusion.noise import stream
from abu.report.answers import answers
from abu.report.heat import heatmaps, matrix, short
from abu.report.intervals import intervals, leaderboard
from abu.report.lines import curves, trends
from abu.report.pictures import faded, gallery, grid, strips, wrap
from abu.report.points import against, agreement
from abu.report.spread import FEW, distributions
from abu.report.style import COLOURS, DPI, GREEN, LOOKS, SMALL, WIDTH, look, save

SPEC = importlib.util.spec_from_file_location("worth", ROOT / "benchmarks/worth.py")
benchmark = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(benchmark)
NAMES = ["abu", "das", "random", "gradient-cosine", "one that nobody knows"]
PICTURES = stream("figures").random((12, 3, 16, 16), np.float32)
VALUES = stream("values").random((len(NAMES), 6))
TABLE = pd.DataFrame({"mean": VALUES[:, 0], "below": 0.1, "above": 0.2}, index=NAMES)
SCORES = pd.DataFrame({"lds": VALUES[:, 0], "low": 0.0, "high": 1.0, "raw": 0.2, "queries": 9})
BOARD = pd.concat([SCORES.assign(method=NAMES, kind=kind) for kind in ("all", *"abcde")])
OVER_K = pd.concat({k: TABLE.rename_axis("method") for k in (1, 4)}, names=["k"])
SQUARE = pd.DataFrame(VALUES[:4, :5], index=[0.1, 1, 10, 100], columns=[0, 0.25, 0.5, 1, 2])
WORTH = SCORES.assign(seconds=10.0 ** np.arange(len(NAMES))).set_axis(NAMES)
FIGURES: dict[str, Callable] = {
    "gallery": lambda: gallery(PICTURES, [f"a picture of many words {i}" for i in range(12)]),
    "gallery of twelve": lambda: gallery(PICTURES, columns=12),
    "strips": lambda: strips(
        PICTURES[:2],
        ["skull", "cat with sunglasses"],
        np.stack([PICTURES[2:12]] * 2),
        np.full((2, 10), 1234567.0),
        np.eye(2, 10, dtype=bool),
        regions=[np.eye(2), None],
    ),
    "grid": lambda: grid([PICTURES] * 2, ["above", "below"], [f"without {i}" for i in range(12)]),
    "curves": lambda: curves(range(6), dict(zip(NAMES, VALUES)), "step", "loss", chance=VALUES[0]),
    "curves of methods": lambda: curves(
        range(1, 7),
        {f"m{i}": VALUES[0] for i in range(20)},
        "K",
        "recall",
        x_log=True,
        methods=True,
    ),
    "trends": lambda: trends(OVER_K, "mean", "below", "rise"),
    "leaderboard": lambda: leaderboard(BOARD, {"all": 0.9}, "score"),
    "intervals": lambda: intervals(
        {k: TABLE for k in "abcdef"}, "mean", ["below", "above"], "precision"
    ),
    "matrix": lambda: matrix(np.eye(80), [f"query {i}" for i in range(80)], "x", "y", "rise"),
    "heatmaps": lambda: heatmaps({f"method {i}": SQUARE for i in range(9)}, "score"),
    "distributions": lambda: distributions({"a": VALUES[0], "b": VALUES[1]}, "rise"),
    "boxes": lambda: distributions({f"{i}": VALUES[0] for i in range(16)}, "rise", log=True),
    "against": lambda: against([1, 2], [2, 3], ["a", "b"], "measured, s", "predicted, s"),
    "agreement": lambda: agreement([1, 2], [2, 3], "recorded", "again"),
    "worth": lambda: benchmark.worth(WORTH, "linear datamodelling score", 0.8),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_read_at_the_width_of_a_page(name: str, tmp_path) -> None:
    figure = FIGURES[name]()
    save(figure, tmp_path / "figure.png")
    assert Image.open(tmp_path / "figure.png").width <= 1.02 * WIDTH * DPI <= 710
    letters = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
    assert min(letters, default=SMALL) >= SMALL
    plt.close(figure)


def test_equal_figures_are_equal_files_and_small(tmp_path) -> None:
    """A grid of pictures, hundreds of kilobytes without a palette."""
    pictures = stream("grid").random((48, 3, 64, 64), np.float32)
    for name in "ab":
        save(gallery(pictures), tmp_path / name)
    plain = io.BytesIO()
    gallery(pictures).savefig(plain)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size < 0.5 * len(plain.getvalue())
    plt.close("all")


def test_a_method_that_one_panel_lacks_has_a_row_in_all() -> None:
    lacking = {"a": TABLE.drop(index=TABLE.index[0]), "b": TABLE}
    figure = intervals(lacking, "mean", "below", "")
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [*lacking["a"].index.drop("chance", errors="ignore"), TABLE.index[0]]
    plt.close(figure)


def test_a_method_keeps_its_colour_everywhere() -> None:
    assert METHODS.keys() <= LOOKS.keys() and len(set(LOOKS.values())) == len(LOOKS)
    assert look("another") == look("another") not in LOOKS.values()
    colour = to_rgb(look("das")[0])
    line = curves([1, 2], {"other": [1, 2], "das": [1, 2]}, "", "", methods=True).axes[0].lines[1]
    dot = next(c for c in intervals({"": TABLE}, "mean", "below", "").axes[0].containers)
    assert to_rgb(line.get_color()) == colour
    assert to_rgb(dot[0].get_color()) == to_rgb(look("abu")[0])
    plt.close("all")


def test_colours_stand_out_of_white() -> None:
    """By 2 to 1 at least; dashes and markers tell apart what colour does not."""
    linear = lambda v: v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
    light = lambda colour: np.dot([0.2126, 0.7152, 0.0722], [*map(linear, to_rgb(colour))])
    assert max(map(light, COLOURS)) + 0.05 <= 1.05 / 2


def test_chance_is_a_line_and_no_row() -> None:
    table = pd.concat([TABLE, pd.DataFrame({"mean": [0.04]}, index=["chance"])])
    axis = intervals({"": table}, "mean", "below", "").axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == NAMES
    assert 0.04 in [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == ":"]
    plt.close("all")


def test_many_samples_become_boxes() -> None:
    few, many = (distributions({f"{i}": VALUES[0] for i in range(n)}, "") for n in (FEW, FEW + 1))
    assert len(many.axes[0].get_yticks()) == FEW + 1 and few.axes[0].get_legend()
    plt.close("all")


def test_a_query_is_shown_once_in_rows_of_its_own() -> None:
    same = [PICTURES[0]] * 3
    figure = strips(same, NAMES[:3], [PICTURES[:4]] * 3, np.ones((3, 4)), np.zeros((3, 4), bool))
    shown = [bool(axis.images) for axis in figure.axes]
    assert shown[0::5] == [True, False, False] and all(shown[1:5] + shown[6:10])
    plt.close("all")


def test_answers_are_the_images_that_stand_first() -> None:
    looked: list[int] = []
    look = lambda i: looked.append(i) or PICTURES[i]
    scores, right = np.array([[0.1, 0.3, 0.2], [3, 2, 1]]), np.eye(2, 3, dtype=bool)
    figure = answers(PICTURES[:2], NAMES[:2], look, scores, right, top=2)
    assert looked == [1, 2, 0, 1]
    assert [axis.get_title() for axis in figure.axes] == ["", "0.3", "0.2", "", "3", "2"]
    green = [axis.spines["top"].get_edgecolor() == to_rgba(GREEN) for axis in figure.axes]
    assert green == [False] * 5 + [True]
    plt.close("all")


def test_what_lies_outside_a_region_fades() -> None:
    region, black = np.array([[1.0, 0.0]]), np.zeros((3, 4, 8))
    assert faded(black, None) is black
    half = faded(black, region)
    assert (half[..., :4] == 0).all() and np.allclose(half[..., 4:], 0.85)


def test_words_are_short() -> None:
    assert wrap("skull with cowboy hat", 11) == "skull with\ncowboy hat" and wrap("", 3) == ""
    assert [short(value) for value in (0.256, -0.05, 1.0, 0.0)] == [".26", "-.05", "1.00", ".00"]


def test_names_beside_points_do_not_overlap() -> None:
    rows = [(2.0, 0.73), (2.0, 0.74), (2.05, 0.75), (1.4, 0.74), (1.4, 0.745), (0.01, 0.74)]
    table = pd.DataFrame(rows, columns=["seconds", "lds"]).sort_values("lds")
    places = benchmark.placed(table)
    for side in (False, True):
        crowd = sorted(at for (left, at), s in zip(places, table.seconds) if left == side and s > 1)
        assert len(crowd) >= 2 and np.diff(crowd).min() > benchmark.GAP * 0.99
    assert all(at >= lds for (_, at), lds in zip(places, table.lds))
    assert places[list(table.seconds).index(0.01)] == (False, 0.74), "alone: at its own height"
