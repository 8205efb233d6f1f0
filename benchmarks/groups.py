"""Whole concepts, whole styles as what is responsible: ``python benchmarks/groups.py``, after the
study.

Scores of the three pictures of a concept, or the hundred of a style, give way to their group's: the
mean of the sharpened scores (a sum, of groups about as large), or the sharpened mean of the scores
as they are, for AbU how far the group's loss rose, unlearning's own answer. Judged by the pairs
that report: the linear datamodelling score of the images' own scores, of their groups', and of what
is left of them within their concept. Writes ``benchmarks/groups.csv``.
"""

import os

import numpy as np
import pandas as pd
from regressed import reported

from abu import ROOT
from abu.data.scores import methods_in, read_scores
from abu.judge.lds import table_of
from abu.judge.sharpen import sharpen
from abu.judge.verdict import verdict_of
from abu.study.folders import results

GROUPS = ("concept", "style")


def grouped(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Scores [Q, N] of which each is the mean of those of its image's group; ``groups``: [N]."""
    _, of = np.unique(groups, return_inverse=True)
    member = np.eye(of.max() + 1)[of]
    return scores @ (member / member.sum(0)) @ member.T


def main() -> None:
    os.chdir(ROOT)
    queries, latents, bank, chosen = reported()
    verdict = verdict_of(bank, queries.name, latents, tuning=False)
    images = pd.read_csv("results/prepare/images.csv").set_index("id").loc[bank.ids]
    file, scores = results("compare") / "scores.parquet", {}
    for method in methods_in(file):
        raw = read_scores(file, queries["query"], bank.ids, method)[verdict.known]
        sharp = lambda values, method=method: sharpen(values, chosen[method].get("sharpness"))
        scores[method, "image"] = own = sharp(raw)
        for group in GROUPS:
            scores[method, group] = mean = grouped(own, images[group].to_numpy())
            scores[method, f"{group}, as it is"] = sharp(grouped(raw, images[group].to_numpy()))
            scores[method, f"within {group}"] = (own - mean).round(12)  # equal ones tie
    kinds = queries.kind[verdict.known].tolist()
    table = table_of(scores, verdict.halves, verdict.differences, kinds)
    table[["method", "scores"]] = table.method.tolist()
    kept = table.set_index(["method", "scores", "kind"])[["queries", "lds", "low", "high"]]
    kept.round(4).to_csv("benchmarks/groups.csv")
    print(kept.xs("all", level="kind").lds.unstack()[[s for _, s in list(scores)[:7]]].round(2))


if __name__ == "__main__":
    main()
