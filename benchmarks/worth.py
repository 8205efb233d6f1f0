"""What each method is worth and costs: ``python benchmarks/worth.py`` (after the study has run).

Linear datamodelling scores of ``results/evaluate/lds.csv`` against seconds a query of
``results/costs.csv``, which are those of one thread on this machine: a gradient method's pass over
the query's own noises, AbU's finite step over all training images, what a store answers. AbU also
with fewer of its timesteps, by what it measured anyhow: seconds are its own, times their share.
Beside them the seconds that a method takes once for a model, the bytes that it keeps for the next
query, and how many settings of it were tried. Writes ``benchmarks/worth.csv`` and
``docs/worth.png``.
"""

import json
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from abu import ROOT
from abu.core.unlearn import over_flips
from abu.data.queries import read_queries
from abu.judge.bank import read_bank
from abu.judge.lds import ALL, table_of
from abu.judge.sharpen import sharpen
from abu.judge.verdict import verdict_of
from abu.report.style import CEILING, CHANCE, GREY, SMALL, WIDTH, look, save
from abu.study.banks import processor
from abu.study.costs import COLUMNS, PATH, read
from abu.study.folders import results

LEAST = 1e-3  # seconds; what takes less is drawn there
EVERY = (2,)  # of AbU's timesteps
GAP = 0.028  # scores between names that stand above each other


def fewer_timesteps(sharpness: float | None) -> pd.DataFrame:
    """Linear datamodelling scores of AbU with every so many of its timesteps, by name, and the
    ``share`` of its passes that they take."""
    queries = read_queries(results("generate") / "queries.csv").query("not tuning")
    latents = np.load(results("generate") / "latents.npy")[queries["query"]]
    bank = read_bank(Path(json.loads(Path("results/retrain/bank.json").read_text())["bank"]))
    said = verdict_of(bank, queries.name, latents, tuning=False)
    rises = torch.from_numpy(np.load(results("unlearn") / "rises.npy")).double()  # [Q, N, F, C, T]
    times, scores, shares = rises.shape[-1], {}, {}
    for every in EVERY:
        some = range(every // 2, times, every)
        values = over_flips(rises[..., list(some)].mean((-2, -1))).numpy()
        scores[f"abu, {len(some)} timesteps"] = sharpen(values[said.known], sharpness)
        shares[f"abu, {len(some)} timesteps"] = len(some) / times
    table = table_of(scores, said.halves, said.differences, queries.kind[said.known])
    table = table[table.kind == ALL].set_index("method")[["lds", "low", "high"]]
    return table.assign(share=pd.Series(shares))


def placed(table: pd.DataFrame) -> list[tuple[bool, float]]:
    """Where the name of each row (``seconds``, ``lds``; ascending) goes: whether left of its point,
    as where another point stands to the right, and at which height: its own, or above the names
    that stand there."""
    places: list[tuple[bool, float]] = []
    for nth, row in enumerate(table.itertuples()):
        beside = table.seconds.between(row.seconds * 1.05, row.seconds * 1.8)
        left = bool((beside & ((table.lds - row.lds).abs() < 0.1)).any())
        near = table[:nth].seconds.between(row.seconds / 3, row.seconds * 3)
        below = [at for (side, at), close in zip(places, near) if close and side == left]
        places.append((left, max([row.lds, *(at + GAP for at in below)])))
    return places


def worth(table: pd.DataFrame, y_label: str, ceiling: float | None = None) -> Figure:
    """What methods are worth, with intervals, against what they cost: rows by method with
    ``seconds`` a query (logarithmic axis), ``lds``, ``low`` and ``high``. What is run in other
    ways, as ``method, 5 timesteps``, is joined by a line, and its way alone is written there."""
    figure, axis = plt.subplots(figsize=(WIDTH, 5.2), layout="constrained")
    ordered = table.sort_values("lds")
    for row, (left, height) in zip(ordered.itertuples(), placed(ordered)):
        colour, _, marker = look(row.Index)
        error = [[row.lds - row.low], [row.high - row.lds]]
        style = {"color": colour, "marker": marker, "markersize": 5, "elinewidth": 1}
        axis.errorbar(row.seconds, row.lds, error, **style, capsize=0)
        name, _, way = row.Index.partition(", ")
        away, across = (0.87, "right") if left else (1.15, "left")
        line = {"arrowstyle": "-", "linewidth": 0.5, "color": GREY} if height > row.lds else None
        where = {"xytext": (row.seconds * away, height), "ha": across, "va": "center"}
        where |= {"color": colour, "fontsize": SMALL, "arrowprops": line}
        axis.annotate(way or name, (row.seconds, row.lds), **where)
    for name, ways in ordered.groupby(ordered.index.str.partition(", ").get_level_values(0)):
        along = ways.sort_values("seconds")
        axis.plot(along.seconds, along.lds, color=look(name)[0], linewidth=0.8, zorder=1)
    axis.axhline(0, label="chance", **CHANCE)
    if ceiling:
        axis.axhline(ceiling, label="what perfect scores would about reach", **CEILING)
    axis.legend(loc="lower right", fontsize=SMALL, frameon=False)
    axis.set(xscale="log", xlabel="seconds a query, once all is cached", ylabel=y_label)
    return figure


def main() -> None:
    os.chdir(ROOT)
    scores = pd.read_csv("results/evaluate/lds.csv").query("kind == 'all'").set_index("method")
    costs = read(PATH, ["method"], COLUMNS)[COLUMNS]
    parts = json.loads(Path("results/tune/base/chosen.json").read_text())
    for name, options in parts.items():
        if "parts" in options:  # the gradient methods share one pass
            costs.loc[name] = costs.loc[options["parts"]].max()
    table = scores[["lds", "low", "high"]].join(costs.astype(float), how="inner")
    table = table.rename(columns={"seconds_per_query": "seconds"})
    table["settings"] = pd.read_csv("results/tune/base/search.csv").groupby("method").size()
    fewer = fewer_timesteps(parts["abu"]["sharpness"])
    fewer["seconds"] = fewer.pop("share") * table.seconds["abu"]
    table = pd.concat([table, fewer]).rename_axis("method").sort_values("lds")
    table.assign(processor=processor()).round(4).to_csv("benchmarks/worth.csv")
    judged = json.loads(Path("results/evaluate/metrics.json").read_text())
    ceiling = max(judged.get("seed_correlation", 0), 0) ** 0.5
    drawn = table.assign(seconds=table.seconds.clip(LEAST))
    save(worth(drawn, "linear datamodelling score", ceiling), Path("docs/worth.png"))
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
