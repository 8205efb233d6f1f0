"""What removals did, in words and figures."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from abu.report.removals import harm, removals, removed, squared

ROWS = {(1, "abu"): 0.5, (1, "random"): 0.1, (3, "random"): 0.2, (3, "abu"): 0.9}
TABLE = pd.DataFrame(
    {f"{name}{part}": ROWS for name in ("loss", "mse", "clip") for part in ("", "_se")}
).rename_axis(["k", "method"])
BY_KIND = pd.concat({"plain": TABLE.loc[3]}, names=["kind"])


def test_the_most_harmful_is_named_first() -> None:
    first, last = removed(TABLE).splitlines()
    assert first.startswith("Without the first 1 images") and "abu 0.500 ± 0.500, random" in first
    assert last.endswith("abu 0.900 ± 0.900, random 0.200 ± 0.200.")
    assert removed(TABLE[:0]) == "No method's images were removed."
    floor = pd.Series({"raw_loss": 0.12345})
    said = "Another seed alone: {'raw_loss': 0.1234}\n"
    assert removed(TABLE, floor) == said + removed(TABLE)
    assert removed(TABLE, floor[:0]) == removed(TABLE)


def test_figures_show_what_was_measured() -> None:
    plt.close("all")
    removals(TABLE[:0], BY_KIND[:0])
    assert not plt.get_fignums()
    removals(TABLE, BY_KIND)
    titles = [[axis.get_title() for axis in plt.figure(n).axes] for n in plt.get_fignums()]
    assert titles[1] == ["rise of the loss", "picture: MSE", "picture: CLIP similarity"]
    assert titles[2] == ["all", "plain"] and len(titles) == 3
    plt.close("all")
    removals(TABLE.loc[[3]], BY_KIND)
    assert len(plt.get_fignums()) == 2, "of one K there is no trend"
    plt.close("all")


def squares() -> pd.DataFrame:
    """What two kinds of Latin squares say of two methods."""
    rows = [(k, k == 8, name, rise) for k in (3, 8) for name, rise in (("abu", 0.4), ("das", 0.2))]
    table = pd.DataFrame(rows, columns=["k", "besides", "method", "rise"])
    ends = {"low": table.rise - 0.1, "high": table.rise + 0.2, "times": table.rise / 0.2}
    return table.assign(**ends, p_holm=0.004).set_index(["k", "besides", "method"])


def test_squares_say_whose_images_are_missed_most() -> None:
    plt.close("all")
    first, last = harm(squares(), "das").splitlines()
    said = (
        "of all but das the loss rises most without abu's images, by 0.400 (0.300 to 0.600), "
        "2.00 times as far as without das's (p = 0.004)."
    )
    assert first == f"K = 3: {said}"
    assert last == f"K = 8, right images gone in every arm: {said}"
    figure = squared(squares())
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["K = 3", "K = 8,\nright images gone in every arm"]
    (bar,) = [part for part in figure.axes[0].containers if part[0].get_xdata()[0] == 0.4]
    assert bar[2][0].get_segments()[0][:, 0] == pytest.approx([0.3, 0.6])
    plt.close("all")
