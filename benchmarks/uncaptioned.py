"""What AbU says of pictures that were drawn without a prompt, by the caption under which training
images are asked: ``python benchmarks/uncaptioned.py``, after the study; a minute.

The model learned with one image in ten under no caption, so such a picture may owe what it is to
that part of training. ``captions``: each timestep meets one of an image's captions, as in the
study; ``none``: the empty caption, under which the query was drawn; ``mixed``: both by their share
of training. Judged by the pairs that report, over the queries without a prompt, each as sharpened
as the study's AbU; intervals are over pairs and queries, of differences too. Writes
``benchmarks/uncaptioned.csv``.
"""

import os
from dataclasses import replace

import numpy as np
import pandas as pd
from ideas import opened, recorded

from abu import ROOT
from abu.core.attribution import unlearn_query
from abu.core.unlearn import Newton, score
from abu.judge.lds import ALL, compare, table_of
from abu.judge.sharpen import sharpen
from abu.study.caching import every_timestep

EVERY, DRAWS = 2, 20  # of ``unlearn``
LEFT_OUT = 0.1  # of training: images under no caption


def main() -> None:
    os.chdir(ROOT)
    side, bank = opened()[1], recorded()
    table, z, _ = side.queries
    cached, verdict = every_timestep(side.cached, EVERY), side.verdict(bank)
    empty = side.system.empty.expand(*side.system.images.texts.shape)
    shared = replace(cached.attribution, queries=z)
    bare = replace(shared, images=replace(side.system.images, texts=empty))
    options = side.chosen["abu"]
    newton = Newton("diagonal", options["damping"], DRAWS, rise=options["rise"])
    asked = np.flatnonzero((table.prompt == "").to_numpy() & verdict.known)
    values = {}
    for name, under in (("captions", shared), ("none", bare)):
        before = under.losses()
        after = [unlearn_query(under, int(q), newton)["losses"] for q in asked]
        values[name] = np.stack([score(before, losses).numpy() for losses in after])
    values["mixed"] = (1 - LEFT_OUT) * values["captions"] + LEFT_OUT * values["none"]
    values = {name: sharpen(of, options["sharpness"]) for name, of in values.items()}
    rows = [np.flatnonzero(verdict.known).tolist().index(q) for q in asked]
    judged = verdict.halves, verdict.differences[:, rows], table.kind[asked]
    lds = table_of(values, *judged).query("kind == @ALL").set_index("method")
    beside = {ALL: {name: ["captions"] for name in ("none", "mixed")}}
    columns = {"difference": "beside captions", "low": "least", "high": "most"}
    against = compare(values, *judged, beside).set_index("method").rename(columns=columns)
    found = lds[["lds", "low", "high"]].join(against[[*columns.values()]])
    found = found.assign(queries=len(asked), pairs=len(verdict.pairs)).round(4)
    found.rename_axis("asked under").to_csv("benchmarks/uncaptioned.csv")
    print(pd.read_csv("benchmarks/uncaptioned.csv").to_string())


if __name__ == "__main__":
    main()
