"""What each method is worth and costs: ``python benchmarks/worth.py`` (after the study has run).

Linear datamodelling scores of ``results/evaluate/lds.csv`` against seconds a query of
``results/costs.csv``, which are those of one thread on this machine: a gradient method's pass over
the query's own noises, AbU's finite step over all training images, what a store answers. AbU also
with fewer of its timesteps, by what it measured anyhow: seconds are its own, times their share.
Writes ``benchmarks/worth.csv`` and ``docs/worth.png``.
"""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from abu import ROOT
from abu.core.unlearn import over_flips
from abu.data.queries import read_queries
from abu.judge.bank import read_bank
from abu.judge.lds import ALL, table_of
from abu.judge.sharpen import sharpen
from abu.judge.verdict import verdict_of
from abu.report.points import worth
from abu.report.style import save
from abu.study.banks import processor
from abu.study.costs import COLUMNS, PATH, read
from abu.study.folders import results

LEAST = 1e-3  # seconds; what takes less is drawn there
EVERY = (2,)  # of AbU's timesteps


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


def main() -> None:
    os.chdir(ROOT)
    scores = pd.read_csv("results/evaluate/lds.csv").query("kind == 'all'").set_index("method")
    costs = read(PATH, ["method"], COLUMNS)[COLUMNS[:2]]
    parts = json.loads(Path("results/tune/base/chosen.json").read_text())
    for name, options in parts.items():
        if "parts" in options:  # the gradient methods share one pass
            costs.loc[name] = costs.loc[options["parts"]].max()
    table = scores[["lds", "low", "high"]].join(costs.astype(float), how="inner")
    table = table.rename(columns={"seconds_per_query": "seconds"})
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
