"""What more draws are worth: ``python benchmarks/draws.py``, after the study.

Gradient methods at 5, 10 and 20 timesteps, with options and sharpness as the study chose them at
its 10: each timestep adds an image's and a query's own loss gradient and as many random cotangents,
so draws cost what they are. All timesteps' gradients are sketched once more, some minutes.

That ``coupling-ridge`` at 20 timesteps stands above D-TRAK at 20 was seen on the pairs before
``LATER``, and named then; so it is asked of the others alone, too. Writes ``benchmarks/draws.csv``
(each score, and the difference to D-TRAK of as many timesteps) and ``benchmarks/drawn.csv`` (the
comparison).
"""

import os
from dataclasses import replace

import numpy as np
import pandas as pd
from ideas import Side, opened, recorded

from abu import ROOT
from abu.judge.lds import ALL, compare, table_of
from abu.judge.sharpen import sharpen

METHODS = ("d-trak", "das", "abu-whole", "coupling", "coupling-ridge")
TIMESTEPS = {5: range(100, 1000, 200), 10: range(50, 1000, 100), 20: range(25, 1000, 50)}
LATER = 39  # pairs from this one on had not been looked at
NAMED, AGAINST, COUNT = "coupling-ridge", "d-trak", 20


def at(side: Side, timesteps: range) -> dict[str, np.ndarray]:
    """Scores [Q, N] of the methods at some timesteps."""
    fewer = replace(side, features=side.features | {"timesteps": list(timesteps)})
    return {name: fewer.method(name) for name in METHODS}


def main() -> None:
    os.chdir(ROOT)
    _, reported = opened()
    verdict, table = reported.verdict(recorded()), reported.queries[0]
    sharp = lambda name, values: sharpen(values[verdict.known], reported.chosen[name]["sharpness"])
    scores = {
        f"{name}, {count}": sharp(name, values)
        for count, timesteps in TIMESTEPS.items()
        for name, values in at(reported, timesteps).items()
    }
    kinds = table.kind[verdict.known]
    judged = verdict.halves, verdict.differences, kinds
    found = table_of(scores, *judged).query(f"kind == '{ALL}'").set_index("method")
    named = {f"{name}, {n}": [f"{AGAINST}, {n}"] for n in TIMESTEPS for name in METHODS}
    against = compare(scores, *judged, {ALL: named}).set_index("method")
    names = {"difference": "beside", "low": "least", "high": "most"}
    found = found.join(against[[*names]].rename(columns=names))
    found = found[["lds", "low", "high", *names.values()]].round(4)
    found.assign(pairs=len(verdict.pairs)).rename_axis("method, timesteps").to_csv(
        "benchmarks/draws.csv"
    )
    print(found.to_string())
    later = np.array(verdict.pairs) >= LATER
    asked, parts = {ALL: {f"{NAMED}, {COUNT}": [f"{AGAINST}, {COUNT}"]}}, {"all": later | True}
    parts |= {"later": later} if later.sum() >= 3 else {}
    rows = [
        compare(scores, verdict.halves[some], verdict.differences[some], kinds, asked).assign(
            which=which, pairs=some.sum()
        )
        for which, some in parts.items()
    ]
    drawn = pd.concat(rows)
    drawn.round(4).to_csv("benchmarks/drawn.csv", index=False)
    print(drawn.round(4).to_string())


if __name__ == "__main__":
    main()
