"""Leave-K-out by Latin squares: planned once, and recorded model by model, as the bank is.

``python -m abu.study.latin [HOURS]`` goes on with the squares that ``retrain.latin`` asks for, from
what the stages up to ``compare`` left, on the engine of ``common``. The plan is made of the scores
that are there the first time, and stays: ``plan.csv`` says which images each model goes without, on
behalf of which query and method.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from abu.data.files import write_json
from abu.data.queries import right_images
from abu.data.scores import read_scores
from abu.data.tables import read_table, write_table
from abu.judge.bank import Bank, read_bank
from abu.judge.latin import groups_of, models_of, plan_squares
from abu.study.banks import Asked, check_bank, opened, record
from abu.study.commands import command
from abu.study.engines import Engine
from abu.study.folders import read_json, results
from abu.study.system import load_queries

RIGHT = "right"
"""The arm of the images that are known to be right."""
AGAINST = "d-trak"
"""The arm with which ``evaluate`` compares the others."""
LISTS = ("images", "also")  # columns of a plan
OPTIONS = ("methods", "squares", "queries", "group", "seed")  # that a plan is made by


def planned(options: dict, asked: Asked) -> pd.DataFrame:
    """The plan that ``retrain.latin`` asks for, of scores as they are, its queries by name. Right
    images, where there are more than K, are those that are most alike. Raises ValueError where the
    method is wanting with which others are compared."""
    if AGAINST not in options["methods"]:
        raise ValueError(f"retrain.latin.methods lacks {AGAINST!r}, with which others are compared")
    queries, _, _ = load_queries()
    ids, data = asked.shared.train_ids, asked.shared.data
    table = results("compare") / "scores.parquet"
    scored = lambda method: read_scores(table, queries["query"], ids, method)
    right = right_images(queries, data.images.iloc[data.rows(ids).numpy()].reset_index(drop=True))
    scores = {method: scored(method) for method in options["methods"] if method != RIGHT}
    if RIGHT in options["methods"]:
        scores[RIGHT] = np.where(right, scored("latent"), -np.inf)
    groups = groups_of(queries.kind, options["queries"], options["group"])
    plan = plan_squares(scores, ids, groups, options["squares"], right)
    return plan.assign(query=queries.name[plan["query"]].to_numpy())


def read_plan(folder: Path) -> pd.DataFrame:
    """A plan that was written. Raises FileNotFoundError where there is none."""
    plan = read_table(folder / "plan.csv", ("model", "query", "method", *LISTS))
    return plan.assign(**{name: plan[name].map(json.loads) for name in LISTS})


def write_plan(folder: Path, plan: pd.DataFrame) -> None:
    texts = {name: plan[name].map(json.dumps) for name in LISTS}
    write_table(folder / "plan.csv", plan.assign(**texts))


def check_planned(latin: dict) -> None:
    """Raise ValueError where a plan is of other options than ``retrain.latin`` has now."""
    file = Path(latin["folder"], "options.json")
    options = read_json(file) if file.is_file() else {}
    if differing := {name: was for name, was in options.items() if latin[name] != was}:
        raise ValueError(
            f"{file}: squares are planned by {differing}, retrain.latin says "
            f"{ {name: latin[name] for name in differing} }; take another folder"
        )


def recorded_squares(latin: dict, asked: Asked) -> Bank | None:
    """Models of squares as far as they are recorded, None where none is. Raises ValueError where
    they are of another study, or planned by other options."""
    folder = Path(latin["folder"])
    check_planned(latin)
    if not (folder / "bank.json").is_file():
        return None
    try:
        check_bank(folder, asked, queries=False)
    except ValueError as error:
        raise ValueError(f"{error}, and retrain.latin: null, or another folder there") from error
    squares = read_bank(folder)
    return squares if len(squares.models) else None


def record_squares(
    latin: dict, asked: Asked, engine: Engine, hours: float | None = None
) -> tuple[int, int]:
    """Go on with the squares that parameters ask for, planned where they are not: how many models
    are recorded, and of how many."""
    folder = Path(latin["folder"])
    check_planned(latin)
    if not (folder / "plan.csv").is_file():
        write_plan(folder, planned(latin, asked))
        write_json(folder / "options.json", {name: latin[name] for name in OPTIONS})
    models = models_of(read_plan(folder), latin["seed"])
    missing = record(folder, replace(asked, plan=models), engine, hours)
    return len(models) - missing, len(models)


def main(hours: str | None = None) -> None:
    options, *given = opened()
    if not options["latin"]:
        raise ValueError("retrain.latin is null; expected what squares to record, and where")
    made, count = record_squares(options["latin"], *given, hours and float(hours))
    print(f"{made} of {count} models are recorded")


if __name__ == "__main__":
    command(main, __doc__)
