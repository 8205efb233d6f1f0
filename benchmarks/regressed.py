"""How many retrained models is a method worth? ``python benchmarks/regressed.py``, after the study.

Scores by regression on the bank itself (datamodels, arXiv 2202.00622), from more and more pairs of
halves, alone and beside methods' scores, judged by the pairs that were left out; medians and 95 %
ranges over splits, which share pairs: a range says how much the choice of pairs matters, no more.
Writes ``benchmarks/regressed.csv`` and ``docs/regressed.png``.
"""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from abu import ROOT
from abu.data.queries import read_queries
from abu.data.scores import read_scores
from abu.diffusion.noise import permutation
from abu.judge.bank import Bank, read_bank
from abu.judge.lds import lds
from abu.judge.sharpen import sharpen
from abu.judge.verdict import seeds_agree, verdict_of
from abu.report.lines import curves
from abu.report.style import CEILING, CHANCE, INK, save
from abu.study.folders import results

METHODS = ("coupling", "abu", "latent", "clip-text")
LEFT = 8  # pairs that judge, at the least
SPLITS = 50


def regressed(
    halves: np.ndarray, differences: np.ndarray, prior: np.ndarray | None = None, ridge: float = 1.0
) -> np.ndarray:
    """Scores float64 [Q, N] by ridge regression of the pairs' ``differences`` [P, Q] on which
    images were in, ``halves`` bool [P, N]; larger: more responsible.

    With d a query's differences and X = +1 or -1 where an image was in the half or in its
    complement, the scores tau minimise ``|d + X tau|^2 + ridge * N |tau - b prior|^2``, so that
    ``ridge`` is relative to a pair's share in the kernel; b, at least 0, is what fits ``prior``
    [Q, N], another method's scores, to d by itself.
    """
    x = 2.0 * halves - 1
    start = np.zeros((differences.shape[1], x.shape[1]))
    if prior is not None:
        told = -x @ prior.T
        size = (told**2).sum(0)
        b = np.divide((told * differences).sum(0), size, out=np.zeros_like(size), where=size > 0)
        start = np.maximum(b, 0)[:, None] * prior
    rest = differences + x @ start.T
    kernel = x @ x.T + ridge * x.shape[1] * np.eye(len(x))
    return start - (x.T @ np.linalg.solve(kernel, rest)).T


def reported() -> tuple[pd.DataFrame, np.ndarray, Bank, dict]:
    """The study's queries that are reported, their latents, its bank, and what ``tune`` chose."""
    queries = read_queries(results("generate") / "queries.csv").query("not tuning")
    latents = np.load(results("generate") / "latents.npy")[queries["query"]]
    bank = read_bank(Path(json.loads(Path("results/retrain/bank.json").read_text())["bank"]))
    return queries, latents, bank, json.loads((results("tune") / "chosen.json").read_text())


def main() -> None:
    os.chdir(ROOT)
    queries, latents, bank, chosen = reported()
    verdict = verdict_of(bank, queries.name, latents, tuning=None)
    file, known = results("compare") / "scores.parquet", verdict.known
    of = lambda name: read_scores(file, queries["query"], bank.ids, name)
    scores = {m: sharpen(of(m), chosen[m].get("sharpness"))[known] for m in METHODS}
    halves, differences, rows = verdict.halves, verdict.differences, []
    for count in [k for k in (1, 2, 4, 8, 16, 32) if k + LEFT <= len(halves)]:
        for split in range(SPLITS):
            order = permutation(len(halves), "regressed", count, split)
            own, rest = order[:count], order[count:]
            judged = lambda values, rest=rest: lds(values, halves[rest], differences[rest]).mean()
            given = halves[own], differences[own]
            rows.append((2 * count, "retrained models alone", judged(regressed(*given))))
            for name, prior in scores.items():
                rows.append((2 * count, name, judged(prior)))
                rows.append((2 * count, f"{name} and they", judged(regressed(*given, prior))))
    table = pd.DataFrame(rows, columns=["models", "scores", "lds"])
    by = table.groupby(["scores", "models"]).lds
    found = by.quantile([0.5, 0.025, 0.975]).unstack().set_axis(["lds", "low", "high"], axis=1)
    found.round(4).to_csv("benchmarks/regressed.csv")
    wide, names = found.lds.unstack("models").T, ["coupling", "abu", "retrained models alone"]
    labels = "retrained models (dotted: chance)", "linear datamodelling score"
    figure = curves(wide.index, dict(wide[names]), *labels, x_log=True, methods=True)
    axis = figure.axes[0]
    axis.lines[-1].set(color=INK)  # no method
    for name, line in zip(names, axis.lines):
        ends = found.loc[name, "low"], found.loc[name, "high"]
        axis.fill_between(wide.index, *ends, color=line.get_color(), alpha=0.2, linewidth=0)
    axis.axhline(0, **CHANCE)
    r, _ = seeds_agree(bank, queries.name, latents)
    if len(r):
        axis.axhline(max(r.mean(), 0) ** 0.5, label="ceiling", **CEILING)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 0.24))
    save(figure, Path("docs/regressed.png"))
    print(wide.round(3).to_string())


if __name__ == "__main__":
    main()
