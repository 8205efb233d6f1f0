"""What more models are worth: ``python benchmarks/seeds.py``, after the study.

Methods ask one model. Here the same model is also trained under other seeds, each is asked, and
their scores are added in standard deviations of each query's; options are as the study chose them
for one model, sharpness is chosen anew by tuning queries and the pairs that choose. No seed is one
of the bank's, so no model shares its noise with the judge. Half an hour of two cores; trained
models and features are kept in ``scratch/``.

Writes ``benchmarks/seeds.csv``: each method by number of models, and its difference to what one
model gives; and ``benchmarks/seeds-named.csv``, comparisons that were named before any was seen.
"""

import os
from dataclasses import replace

import numpy as np
from ideas import ENGINE, Side, opened, recorded

from abu import ROOT
from abu.data.queries import right_images
from abu.judge.lds import ALL, compare, table_of
from abu.judge.retrain import retrain
from abu.judge.search import Search
from abu.judge.sharpen import product, sharpen
from abu.study import banks
from abu.study.folders import read_yaml
from abu.study.tasks import run_tasks

SEEDS = (101, 102)
MODELS = (1, 2, 3)
METHODS = ("d-trak", "das", "abu-whole", "coupling", "coupling-ridge")
PRODUCT = ("coupling", "d-trak")  # with latents by ridge, which ask no model
MOST = MODELS[-1]
NAMED = {
    ALL: {
        f"ridge-product, {MOST}": ["ridge-product, 1"],
        f"coupling-ridge, {MOST}": ["coupling-ridge, 1", f"d-trak, {MOST}"],
        f"d-trak, {MOST}": ["d-trak, 1"],
    }
}


def unets(shared) -> list:
    """The model trained whole under each of ``SEEDS``."""
    tasks = {f"seed-{seed}": ([], seed) for seed in SEEDS}
    done = run_tasks(retrain, shared, tasks, ENGINE, progress="train").values()
    return [shared.unet(result.tensors()["weights"]) for result in done]


def asked(side: Side, unet) -> dict[str, np.ndarray]:
    """Scores [Q, N] of the methods by a model; what it saw is forgotten afterwards."""
    one = replace(side, system=replace(side.system, unet=unet))
    return {name: one.method(name) for name in METHODS}


def added(scores: list[dict[str, np.ndarray]], similar: np.ndarray) -> dict[str, np.ndarray]:
    """By method and number of models, scores added over the first so many of them."""
    found = {}
    for count in MODELS:
        several = {name: product([each[name] for each in scores[:count]]) for name in METHODS}
        found |= {f"{name}, {count}": values for name, values in several.items()}
        parts = [*(several[name] for name in PRODUCT), similar]
        found[f"ridge-product, {count}"] = product(parts)
    return found


def main() -> None:
    os.chdir(ROOT)
    sides, bank = opened(), recorded()
    others = unets(banks.opened()[1].shared)
    models = [sides[0].system.unet, *others]
    tuning, reported = (
        added([asked(side, unet) for unet in models], side.method("latent-ridge")) for side in sides
    )
    chooses, reports = (side.verdict(bank) for side in sides)
    sharpness = read_yaml(ROOT / "params.yaml")["tune"]["sharpness"]
    search = Search(chooses, right_images(sides[0].queries[0], sides[0].system.table), sharpness)
    for name, values in tuning.items():
        search.add(name, values)
    best = {name: search.best(name)["sharpness"] for name in tuning}
    sharp = {name: sharpen(v[reports.known], best[name]) for name, v in reported.items()}
    kinds = sides[1].queries[0].kind[reports.known]
    judged = reports.halves, reports.differences, kinds
    lds = table_of(sharp, *judged).query(f"kind == '{ALL}'").set_index("method")
    alone = {name: [f"{name.split(', ')[0]}, 1"] for name in sharp if not name.endswith(", 1")}
    against = compare(sharp, *judged, {ALL: alone}).set_index("method")
    columns = {"difference": "more", "low": "least", "high": "most"}
    lds = lds[["lds", "low", "high"]].join(against[[*columns]].rename(columns=columns))
    lds = lds.assign(sharpness=best, pairs=len(reports.pairs)).round(4)
    lds.rename_axis("method, models").to_csv("benchmarks/seeds.csv")
    print(lds.to_string())
    named = compare(sharp, *judged, NAMED).assign(pairs=len(reports.pairs)).round(4)
    named.to_csv("benchmarks/seeds-named.csv", index=False)
    print(named.to_string())


if __name__ == "__main__":
    main()
