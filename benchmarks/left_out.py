"""Leave one group out: ``python benchmarks/left_out.py [HOURS]``, after the study.

Halves of the bank have about as many of one style as of another, so they hardly ask about styles.
Here models are trained again without a whole style, under two seeds, and without each of ten blocks
of ten concepts, under one; a query's rise is how far its loss lies above that of the bank's model
of that seed from which nothing was removed. A method's say is the mean of the scores of a group's
images, sharpened, or as they are (for AbU how far the whole group's loss rose, unlearning's own
answer). Judged over queries: the rank correlation of the two over groups, and how often the group
that a method puts first is the one whose removal did most harm. Models are kept in
``scratch/left-out`` and gone on with, in the order above. Writes ``benchmarks/left-out.csv`` and
the rises, ``benchmarks/left-out-rises.csv``.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from regressed import reported

from abu import ROOT
from abu.data.scores import methods_in, read_scores
from abu.diffusion.noise import permutation
from abu.judge.bank import Bank, Model, read_bank
from abu.judge.intervals import clustered
from abu.judge.lds import correlations
from abu.judge.sharpen import sharpen
from abu.study.banks import opened, record
from abu.study.folders import results

BLOCKS = 10
SEEDS = {"style": (3, 4), "concepts": (3,)}  # of full_seeds: what the bank has whole models of


def groups_of(images: pd.DataFrame) -> dict[str, pd.Series]:
    """Names of each image's groups, by kind; blocks of concepts by a named draw."""
    concepts = images.concept.unique()
    order = permutation(len(concepts), "left-out")
    blocks = {concepts[c]: f"block-{n % BLOCKS}" for n, c in enumerate(order)}
    return {"style": images["style"], "concepts": images.concept.map(blocks)}


def models_of(groups: dict[str, pd.Series]) -> list[Model]:
    """A model for each kind of groups, seed and group."""
    return [
        Model(seed, tuple(of.index[of == group]), label=f"{kind}-{seed}-{group}")
        for kind, of in groups.items()
        for seed in SEEDS[kind]
        for group in sorted(of.unique())
    ]


def rises_of(left: Bank, bank: Bank, names: list[str]) -> pd.DataFrame:
    """How far the loss of queries ``names`` rose: kind, seed, group, query, rise."""
    mean = lambda of: pd.DataFrame(of.losses.mean((2, 3), dtype=np.float64), of.models.name)
    place = {name: row for row, name in enumerate(left.queries.name)}
    at, now, before, rows = [place[name] for name in names], mean(left), mean(bank), []
    for name in now.index:
        kind, seed, group = name.split("-", 2)
        rise = (now.loc[name] - before.loc[f"seed-{seed}"])[at].to_numpy()
        given = {"kind": kind, "seed": int(seed), "group": group, "query": names}
        rows.append(pd.DataFrame(given | {"rise": rise}))
    return pd.concat(rows, ignore_index=True)


def judged(
    told: dict[tuple[str, str], np.ndarray], rises: np.ndarray
) -> Iterator[dict[str, float | str]]:
    """Each of ``told`` [Q, G] against the rises [Q, G]."""
    most = rises.argmax(1)
    right = {name: correlations(values, rises) for name, values in told.items()}
    first = {name: (values.argmax(1) == most).astype(float) for name, values in told.items()}
    everything = np.stack([*right.values(), *first.values()], 1)
    drawn = clustered(everything, np.arange(len(everything)), 0)
    ends = np.percentile(drawn, [2.5, 97.5], axis=0).T.reshape(2, len(told), 2)
    for n, (method, scores) in enumerate(told):
        row = {"method": method, "scores": scores}
        for side, (measure, of) in enumerate({"agreement": right, "first": first}.items()):
            low, high = ends[side, n]
            mean = of[method, scores].mean()
            row |= {measure: mean, f"{measure} low": low, f"{measure} high": high}
        yield row


def main(hours: str | None = None) -> None:
    os.chdir(ROOT)
    queries, _, bank, chosen = reported()
    images = pd.read_csv("results/prepare/images.csv").set_index("id").loc[bank.ids]
    groups = groups_of(images)
    _, asked, engine = opened()
    folder, plan = Path("scratch/left-out"), models_of(groups)
    missing = record(folder, replace(asked, plan=plan), engine, hours and float(hours))
    print(f"{len(plan) - missing} of {len(plan)} models are recorded")

    if missing == len(plan):
        sys.exit("no model is recorded yet; nothing is written")
    table = rises_of(read_bank(folder), bank, queries.name.tolist())
    file, rows = results("compare") / "scores.parquet", []
    methods = methods_in(file)
    raw = {method: read_scores(file, queries["query"], bank.ids, method) for method in methods}
    sharp = {m: sharpen(values, chosen[m].get("sharpness")) for m, values in raw.items()}
    for kind, of_kind in table.groupby("kind", sort=False):
        wide = of_kind.pivot(index=["seed", "query"], columns="group", values="rise")
        names, every = queries.name.tolist(), sorted(groups[kind].unique())
        by_seed = [wide.loc[seed].loc[names] for seed in wide.index.unique("seed")]
        by_seed = [
            rise for rise in by_seed if rise.notna().to_numpy().all() and list(rise) == every
        ]
        if not by_seed:
            continue
        member = np.stack([groups[kind] == group for group in wide.columns], 1)
        of = lambda values, member=member: values @ (member / member.sum(0))
        told = {(m, "sharpened"): of(values) for m, values in sharp.items()}
        told |= {(m, "as they are"): of(values) for m, values in raw.items()}
        rise = np.mean(by_seed, 0)
        found = list(judged(told, rise))
        if len(by_seed) > 1:
            first, second = (each.to_numpy() for each in by_seed[:2])
            found += judged({("the other seed's rises", ""): first}, second)
        parts = {"groups": kind, "of": rise.shape[1], "seeds": len(by_seed)}
        rows += [{**parts, "queries": len(rise)} | row for row in found]
    if not rows:
        sys.exit("of no kind of groups are all models of a seed recorded; nothing is written")
    table.round({"rise": 7}).to_csv("benchmarks/left-out-rises.csv", index=False)
    out = pd.DataFrame(rows)
    out.round(4).to_csv("benchmarks/left-out.csv", index=False)
    print(out.sort_values("agreement", ascending=False).round(2).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
