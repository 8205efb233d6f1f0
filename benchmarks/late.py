"""Comparisons that were named late: ``python benchmarks/late.py``, after the study; a minute.

``evaluate.comparisons`` were named before the pairs by which they are made had been looked at. What
is asked here was named after all of them had been: how the method with the highest mean,
``ridge-product``, stands beside every other one, and AbU beside the kernels that all pairs together
tell it from. So these are intervals that describe, by all pairs that report and by those alone that
nobody had looked at when the list was settled; p values are corrected within each of the two
(Holm). Writes ``benchmarks/late.csv``.
"""

import os
from pathlib import Path

import pandas as pd
from ideas import opened, recorded
from ruamel.yaml import YAML

from abu import ROOT
from abu.data.scores import methods_in, read_scores
from abu.judge.lds import ALL, compare
from abu.judge.sharpen import sharpen
from abu.study.folders import results

OURS = "ridge-product"
FEW = ["clip-text", "bm25", "latent"]  # of kinds that similarity knows little of
KERNELS = {"abu": ["d-trak", "das"]}


def main() -> None:
    os.chdir(ROOT)
    side, bank = opened()[1], recorded()
    table, verdict = side.queries[0], side.verdict(bank)
    scored = results("compare") / "scores.parquet"
    values = {
        name: sharpen(
            read_scores(scored, table["query"], bank.ids, name)[verdict.known],
            side.chosen[name]["sharpness"],
        )
        for name in methods_in(scored)
        if name in side.chosen
    }
    others = [name for name in values if name != OURS]
    named = {ALL: {OURS: others} | KERNELS, "uncaptioned": {OURS: FEW}, "keywords": {OURS: FEW}}
    unseen = YAML(typ="safe").load(Path("params.yaml"))["evaluate"]["unseen_from"]
    tables = []
    for by in (verdict, verdict.since(unseen)):
        judged = by.halves, by.differences, table.kind[verdict.known]
        tables.append(compare(values, *judged, named).assign(pairs=len(by.pairs)))
    found = pd.concat(tables).round(4)
    found.to_csv("benchmarks/late.csv", index=False)
    print(found.drop(columns="p").to_string(index=False))


if __name__ == "__main__":
    main()
