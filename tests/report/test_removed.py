"""What removals did, in words and figures."""

import matplotlib.pyplot as plt
import pandas as pd

from abu.report.removals import removals, removed

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
