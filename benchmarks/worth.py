"""What each method is worth and costs: ``python benchmarks/worth.py`` (after the study has run).

Linear datamodelling scores of ``results/evaluate/lds.csv`` against seconds a query of
``results/costs.csv``, which are those of one thread on this machine: a gradient method's pass over
the query's own noises, AbU's finite step over all training images, what a store answers. Writes
``benchmarks/worth.csv`` and ``docs/worth.png``.
"""

import json
import os
from pathlib import Path

import pandas as pd

from abu import ROOT
from abu.report.points import worth
from abu.report.style import save
from abu.study.banks import processor
from abu.study.costs import COLUMNS, PATH, read

LEAST = 1e-3  # seconds; what takes less is drawn there


def main() -> None:
    os.chdir(ROOT)
    scores = pd.read_csv("results/evaluate/lds.csv").query("kind == 'all'").set_index("method")
    costs = read(PATH, ["method"], COLUMNS)[COLUMNS[:2]]
    parts = json.loads(Path("results/tune/base/chosen.json").read_text())
    for name, options in parts.items():
        if "parts" in options:  # the gradient methods share one pass
            costs.loc[name] = costs.loc[options["parts"]].max()
    table = scores[["lds", "low", "high"]].join(costs.astype(float), how="inner")
    table = table.rename(columns={"seconds_per_query": "seconds"}).sort_values("lds")
    table.assign(processor=processor()).round(4).to_csv("benchmarks/worth.csv")
    judged = json.loads(Path("results/evaluate/metrics.json").read_text())
    ceiling = max(judged.get("seed_correlation", 0), 0) ** 0.5
    drawn = table.assign(seconds=table.seconds.clip(LEAST))
    save(worth(drawn, "linear datamodelling score", ceiling), Path("docs/worth.png"))
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
