"""Ideas beside the methods, and what each gave: ``python benchmarks/ideas.py``, after the study.

Each takes some lines on what the study has cached. Its option and its sharpness are chosen by
tuning queries and the pairs that choose, as those of every method; then the pairs that report judge
it once, beside the method that it would better. Intervals of the differences are over pairs and
queries, p values corrected for all ideas (Holm). Writes ``benchmarks/ideas.csv``.

Of the first of them, on 20 pairs that report, coupling where images explain each other away stood
above coupling and D-TRAK, and became the method ``coupling-ridge``. What was chosen by pairs is not
confirmed by them: ``benchmarks/confirmed.csv`` compares it on later pairs alone, which nobody had
looked at when these two comparisons were named (the first of them had been trained by then).

``mirrored`` unlearns each training image in place of the query, and asks how far the query's loss
rises: as many Newton steps as there are images, some minutes.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ruamel.yaml import YAML
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import normalize

from abu import ROOT
from abu.baselines.coupling import coupling, explain_away
from abu.baselines.evidence import Evidence
from abu.baselines.kernels import trak
from abu.baselines.registry import scores
from abu.core.attribution import gradient_of, unit_moves, unlearn_query
from abu.core.influence import means
from abu.core.quick import Quick
from abu.core.store import answer
from abu.core.unlearn import Newton
from abu.data.queries import Queries, right_images
from abu.data.scores import read_scores
from abu.judge.bank import Bank, read_bank
from abu.judge.lds import ALL, compare, table_of
from abu.judge.search import Search
from abu.judge.sharpen import product, sharpen
from abu.judge.verdict import Verdict, verdict_of
from abu.study.caching import load_cached, load_store
from abu.study.engines import Engine
from abu.study.evidence import evidence_of
from abu.study.folders import results
from abu.study.system import load_queries, load_system
from abu.study.tasks import run_tasks, stacked

SPEED = {"precision": "float32", "compile": False, "channels_last": False}
SHARPNESS = (0.25, 0.5, 1.0, 2.0)
MIXED = ("coupling", "abu-whole", "d-trak", "latent-ridge")
PARENTS = {  # the method that an idea would better
    "d-trak, each timestep normalised": "d-trak",
    "coupling, less what is near all": "coupling",
    "abu-whole, explained away": "abu-whole",
    "learned mix": "ridge-product",
    "EK-FAC influence": "abu-plus-gn",
    "SOURCE's filter": "abu-plus-gn",
    "mirrored": "abu",
    "BM25": "clip-text",
}
OPTIONS = {
    "d-trak, each timestep normalised": (0.01, 0.1, 0.3, 1.0, 3.0),  # ridge
    "coupling, less what is near all": (0.25, 0.5, 1.0),  # share
    "abu-whole, explained away": (0.1, 1.0, 10.0),  # ridge
    "learned mix": (None,),
    "EK-FAC influence": (0.1, 1.0, 10.0, 100.0),  # damping, of a layer's mean eigenvalue
    "SOURCE's filter": (0.1, 1.0, 10.0, 100.0),
    "mirrored": (None,),
    "BM25": (None,),
}


@dataclass
class Side:
    """Queries of one kind of use, tuning or reported, and what the study knows of them."""

    tuning: bool
    system: object
    cached: object
    chosen: dict
    features: dict

    @cached_property
    def queries(self) -> tuple[pd.DataFrame, Queries, Tensor]:
        return load_queries(tuning=self.tuning)

    def verdict(self, bank: Bank) -> Verdict:
        """What the pairs say that choose, or report."""
        table, z, _ = self.queries
        return verdict_of(bank, table.name, z.latents.numpy(), self.tuning)

    @cached_property
    def evidence(self) -> Evidence:
        run, seed = partial(run_tasks, engine=ENGINE), self.cached.manifest["seed"]
        return evidence_of(self.system, self.queries, self.features, seed, BATCH, run)

    def method(self, name: str) -> np.ndarray:
        """Scores of one of the study's methods."""
        if "parts" in self.chosen[name]:
            return product([self.method(part) for part in self.chosen[name]["parts"]])
        return scores(name, self.evidence, self.chosen[name])

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        shared = replace(self.cached.attribution, queries=self.queries[1])
        tasks = {f"gradient-{q}": (q, DRAWS) for q in range(len(shared.queries))}
        return stacked(run_tasks(gradient_of, shared, tasks, ENGINE).values())


ENGINE, BATCH = Engine("pool"), 64
DRAWS = 10  # noises for each timestep of a query's gradient
LATER = 29  # pairs from this one on had not been looked at
NAMED = {ALL: {"coupling-ridge": ["coupling", "d-trak"]}}


def per_timestep(side: Side, ridge: float) -> np.ndarray:
    """D-TRAK whose gradients count alike at each timestep."""
    evidence = side.evidence
    queries = evidence.kept("features of queries", evidence.shared.queries.images())
    mean = lambda part: normalize(part.float(), dim=-1).mean(1)
    pair = [torch.cat([mean(part) for part in of("square")]) for of in (queries, evidence.images())]
    return trak(tuple(pair), ridge).numpy()


def explained(side: Side, ridge: float) -> np.ndarray:
    """As coupling-ridge, of the loss gradients that abu-whole asks with."""
    rows, damping = side.evidence.images(), side.chosen["abu-whole"]["damping"]
    factor = side.evidence("factor")(damping)
    of = lambda asked: coupling((asked, rows("random")), factor)
    images = torch.cat([of(part[:, :, None]) for part in rows("loss")])
    return explain_away(of(side.evidence("loss rows")[0]), images, ridge).numpy()


def less_hubs(side: Side, share: float) -> np.ndarray:
    """What an image is to the query, less a share of what it is to every training image."""
    damping = side.chosen["coupling"]["damping"]
    queries, images = (side.evidence(name)(damping) for name in ("couplings", "image couplings"))
    return (queries.log() - share * images.log().mean(0)).numpy()


def first_order(side: Side, move: Callable) -> np.ndarray:
    """Influence functions from the store, of what ``move`` makes of the queries' gradients: it is
    given the leading coordinates' basis."""
    basis, stored = load_store(side.cached)
    moves = move(side.cached.attribution, basis)
    answered = answer(stored, moves, side.queries[1].latents[0].numel())
    return Quick(*means(answered)[0]).rise(1.0, [1])


def ekfac_influence(side: Side, damping: float) -> np.ndarray:
    """Along the natural gradient, in the EK-FAC basis."""
    units = lambda shared: unit_moves(shared, side.gradients, "ekfac", damping)
    return first_order(side, lambda shared, basis: basis.of(units(shared)))


def source(side: Side, steps: float) -> np.ndarray:
    """SOURCE's filter ``(1 - exp(-eta K lambda)) / lambda`` in place of the inverse: as far as a
    training run of finite length moves; ``steps``: eta K times the mean eigenvalue."""

    def move(shared, basis) -> Tensor:
        values = basis.scale.double().square()
        kept = -torch.expm1(-steps * values / values.mean()) / values
        return (basis.of(side.gradients).double() * kept).float()

    return first_order(side, move)


def mirrored(side: Side, option: None) -> np.ndarray:
    """How far the query's loss rises, in shares of what it was, where an image is unlearned by
    AbU's step under its first caption."""
    whole, images = side.cached.attribution, side.system.images
    asked, options = side.queries[1], side.chosen["abu"]
    newton = Newton("diagonal", options["damping"], draws=2, rise=options["rise"])
    shared = replace(whole, images=asked.images(), grid=replace(whole.grid, captions=1))
    before, found = shared.losses(), []
    for first in range(0, len(images), 12):  # a task also looks at the queries of its own
        some = images[first : first + 12]
        pictures, texts = some.latents[:, 0].float(), some.texts[:, 0].float()
        own = replace(shared, queries=Queries([f"image {i}" for i in some.ids], pictures, texts))
        tasks = {f"image-{i}": (n, newton) for n, i in enumerate(some.ids)}
        found += run_tasks(unlearn_query, own, tasks, ENGINE, progress="mirrored").values()
    rise = lambda result: ((result["losses"] - before) / before).double().mean((1, 2, 3))
    return torch.stack([rise(result) for result in found], 1).numpy()


def mixed(side: Side, weights: np.ndarray) -> np.ndarray:
    """Several methods' scores in standard deviations of each query's, weighted."""
    return sum(w * product([side.method(name)]) for w, name in zip(weights, MIXED))


def learned_mix(tuning: Side, judge: Callable) -> np.ndarray:
    """Weights above 0 that the judge likes best on tuning queries, sharpened alike."""
    parts = np.stack([product([tuning.method(name)]) for name in MIXED])
    worth = lambda x: -judge(sharpen(np.tensordot(np.exp(x), parts, 1), 1.0))
    start = np.vstack([np.zeros(len(MIXED)), np.eye(len(MIXED))])  # of steps: the judge has some
    options = {"maxfev": 400, "initial_simplex": start}
    best = minimize(worth, start[0], method="Nelder-Mead", options=options)
    print("learned mix:", dict(zip(MIXED, np.exp(best.x).round(2))))
    return np.exp(best.x)


def recorded() -> Bank:
    """The bank that judged the study."""
    return read_bank(Path(json.loads(Path("results/retrain/bank.json").read_text())["bank"]))


def opened() -> tuple[Side, Side]:
    """Queries that choose, and those that are reported, of the study in this folder."""
    system, study = load_system(), YAML(typ="safe").load(Path("params.yaml"))
    cached = load_cached(system, study["common"]["seed"], 64, torch.device("cpu"), SPEED)
    load = lambda name: json.loads((results("tune") / name).read_text())
    given = system, cached, load("chosen.json"), load("features.json")
    return Side(True, *given), Side(False, *given)


def main() -> None:
    os.chdir(ROOT)
    tuning, reported = opened()
    system, bank = reported.system, recorded()
    chooses, reports = (side.verdict(bank) for side in (tuning, reported))
    search = Search(chooses, right_images(tuning.queries[0], system.table), SHARPNESS)
    weights = learned_mix(tuning, search.judge[1])
    ideas = {
        "d-trak, each timestep normalised": per_timestep,
        "coupling, less what is near all": less_hubs,
        "abu-whole, explained away": explained,
        "learned mix": lambda side, option: mixed(side, weights),
        "EK-FAC influence": ekfac_influence,
        "SOURCE's filter": source,
        "mirrored": mirrored,
        "BM25": lambda side, option: side.method("bm25"),
    }
    table, z, _ = reported.queries
    of = lambda name: read_scores(
        results("compare") / "scores.parquet", table["query"], bank.ids, name
    )
    sharp = lambda values, beta: sharpen(values[reports.known], beta)
    values = {
        name: sharp(of(name), tuning.chosen[name]["sharpness"])
        for name in ("coupling-ridge", *PARENTS.values())
    }
    for name, idea in ideas.items():
        for option in OPTIONS[name]:
            search.add(name, idea(tuning, option), option=option)
        best = search.best(name)
        values[name] = sharp(idea(reported, best["option"]), best["sharpness"])
        print(name, best, flush=True)
    judged = reports.halves, reports.differences, table.kind[reports.known]
    lds = table_of({name: values[name] for name in ideas}, *judged)
    lds = lds[lds.kind == ALL].set_index("method")[["lds", "low", "high"]]
    named = {name: [parent] for name, parent in PARENTS.items()}
    against = compare(values, *judged, {ALL: named}).set_index("method")
    columns = ["other", "difference", "low", "high", "p_holm"]
    against = against[columns].rename(columns={"low": "least", "high": "most"})
    found = lds.join(against).rename_axis("idea")
    for part in ("option", "sharpness"):
        found[part] = [search.best(name)[part] for name in found.index]
    found.assign(pairs=len(reports.pairs)).round(4).to_csv("benchmarks/ideas.csv")
    print(found.round(3).to_string())
    later = np.array(reports.pairs) >= LATER
    if later.sum() >= 3:
        given = reports.halves[later], reports.differences[later], judged[2]
        confirmed = compare(values, *given, NAMED).assign(pairs=later.sum())
        confirmed.round(4).to_csv("benchmarks/confirmed.csv", index=False)
        print(confirmed.round(3).to_string())


if __name__ == "__main__":
    main()
