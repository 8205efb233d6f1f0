"""Leave-K-out by Latin squares: planned once, and recorded model by model, as the bank is.

``python -m abu.study.latin [HOURS]`` goes on with the squares that ``retrain.latin`` asks for, from
what the stages up to ``compare`` left, on the engine of ``common``. The plan is made of the scores
that are there the first time, and stays: ``plan.csv`` says which images each model goes without, on
behalf of which query and method.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from abu.data.queries import right_images
from abu.data.scores import read_scores
from abu.data.tables import read_table, write_table
from abu.diffusion.components import Components
from abu.judge.bank import Bank, read_bank
from abu.judge.latin import groups_of, models_of, plan_squares
from abu.study.banks import Asked, check_bank, opened, record
from abu.study.commands import command
from abu.study.engines import Engine
from abu.study.folders import results
from abu.study.system import load_queries

RIGHT = "right"
"""The arm of the images that are known to be right."""
LISTS = ("images", "also")  # columns of a plan


def planned(options: dict, asked: Asked) -> pd.DataFrame:
    """The plan that ``retrain.latin`` asks for, of scores as they are, its queries by name. Right
    images, where there are more than K, are those that are most alike."""
    queries, _, _ = load_queries()
    ids, data = asked.shared.train_ids, asked.shared.data
    table = results("compare") / "scores.parquet"
    scored = lambda method: read_scores(table, queries["query"], ids, method)
    right = right_images(queries, data.images.iloc[data.rows(ids).numpy()].reset_index(drop=True))
    scores = {method: scored(method) for method in options["methods"] if method != RIGHT}
    if RIGHT in options["methods"]:
        scores[RIGHT] = np.where(right, scored("latent"), -np.inf)
    groups = groups_of(queries.kind, options["queries"], options["group"])
    squares = [(k, besides) for k, besides in options["squares"]]
    plan = plan_squares(scores, ids, groups, squares, right)
    return plan.assign(query=queries.name[plan["query"]].to_numpy())


def read_plan(folder: Path) -> pd.DataFrame:
    """A plan that was written. Raises FileNotFoundError where there is none."""
    plan = read_table(folder / "plan.csv", ("model", "query", "method", *LISTS))
    return plan.assign(**{name: plan[name].map(json.loads) for name in LISTS})


def write_plan(folder: Path, plan: pd.DataFrame) -> None:
    write_table(
        folder / "plan.csv", plan.assign(**{name: plan[name].map(json.dumps) for name in LISTS})
    )


def recorded_squares(folder: Path, asked: Asked) -> Bank | None:
    """Models of squares as far as they are recorded, None where none is. Raises ValueError where
    they are of another study."""
    if not (folder / "bank.json").is_file():
        return None
    check_bank(folder, asked, queries=False)
    found = read_bank(folder)
    return found if len(found.models) else None


def answers(
    plan: pd.DataFrame, latin: Bank, bank: Bank, embed: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What recorded models made of the queries of their plan, by model and query: ``loss``, ``mse``
    of the picture to that of the model from which nothing was removed, and ``clip``, 1 less the
    cosine similarity of the two; and the same of that model itself, by query. ``embed``: of pixels
    [B, 3, H, W] in [0, 1].

    Raises ValueError where a model went without other images than its plan says, or the ``bank``
    lacks the model of their seed from which nothing was removed.
    """
    seeds, place = set(latin.models.seed), {n: row for row, n in enumerate(latin.queries.name)}
    whole = bank.models[bank.models.seed.isin(seeds) & (bank.models.pair < 0)]
    if len(seeds) != 1 or len(whole) != 1:
        found = f"{latin.folder} has models of seeds {sorted(seeds)}"
        raise ValueError(f"{found}; expected one, of which {bank.folder} has a whole model")
    removed = {model.name: model.removed for model in models_of(plan, 0)}
    for row, name in enumerate(latin.models.name):
        if removed.get(name) != tuple(sorted(latin.removed(row))):
            raise ValueError(f"{latin.folder}: {name} went without other images than plan.csv says")
    mean = lambda of, row: of.losses[row].mean((1, 2), dtype=np.float64)
    drawn = lambda of, name: torch.from_numpy(of.drawn(name)).float() / 255
    floor, pictures = mean(bank, whole.index[0]), drawn(bank, whole.name.iloc[0])
    own, rows = embed(pictures), []
    for row, name in enumerate(latin.models.name):
        asked = plan[plan.model == name]["query"]
        at = [place[query] for query in asked]
        now = drawn(latin, name)[at]
        mse = ((now - pictures[at]) ** 2).mean((1, 2, 3)).numpy()
        clip = 1 - torch.cosine_similarity(embed(now), own[at], dim=-1).numpy()
        values = {"loss": mean(latin, row)[at], "mse": mse, "clip": clip}
        rows.append(pd.DataFrame({"model": name, "query": asked.to_numpy(), **values}))
    none = pd.DataFrame({"loss": floor[: len(place)], "mse": 0.0, "clip": 0.0}, index=list(place))
    return pd.concat(rows).set_index(["model", "query"]), none


def record_squares(
    latin: dict, asked: Asked, components: Components, engine: Engine, hours: float | None = None
) -> tuple[int, int]:
    """Go on with the squares that parameters ask for, planned where they are not: how many models
    are recorded, and of how many."""
    folder = Path(latin["folder"])
    if not (folder / "plan.csv").is_file():
        write_plan(folder, planned(latin, asked))
    models = models_of(read_plan(folder), latin["seed"])
    missing = record(folder, replace(asked, plan=models), components, engine, hours)
    return len(models) - missing, len(models)


def main(hours: str | None = None) -> None:
    options, *given = opened()
    if not options["latin"]:
        raise ValueError("retrain.latin is null; expected what squares to record, and where")
    made, asked = record_squares(options["latin"], *given, hours and float(hours))
    print(f"{made} of {asked} models are recorded")


if __name__ == "__main__":
    command(main, __doc__)
