"""What ablations gave, read back from their experiments into one table."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from dvc.api import open as dvc_open

from abu import ROOT
from abu.data.queries import read_queries
from abu.judge.bank import read_bank
from abu.judge.lds import ALL, compare
from abu.judge.sharpen import sharpen
from abu.judge.verdict import verdict_of
from abu.study.ablations import PREFIX, rows
from abu.study.folders import results

UNLEARN, JUDGE = (f"results/{name}/metrics.json" for name in ("unlearn/base", "evaluate"))
BESIDE = ["difference", "least", "most", "p_holm", "apart"]
METRICS = ["own_recall", "average_precision", "target_rise", "others_rise", "relative_norm"]
COLUMNS = ["default", "state", "lds", "low", "high", *BESIDE, *METRICS, "seconds"]
COLUMNS += ["own_recall_se", "average_precision_se"]
SCORES = "results/unlearn/base/scores.npy"


def scores_at(revision: str | None) -> np.ndarray:
    """AbU's scores [Q, N] at a revision, or (None) in the workspace."""
    if revision is None:
        return np.load(ROOT / SCORES)
    with dvc_open(SCORES, repo=str(ROOT), rev=revision, mode="rb") as file:
        return np.load(file)


def beside(
    study: np.ndarray,
    choices: dict[str, np.ndarray],
    halves: np.ndarray,
    differences: np.ndarray,
    kinds: Sequence[str],
) -> pd.DataFrame:
    """Linear datamodelling scores of choices less the study's, by name, from scores [Q, N] over the
    same pairs and queries (``abu.judge.lds.compare``): ``difference``, the ends ``least`` and
    ``most`` of its 95 % interval, ``p_holm``, corrected for the number of choices, and whether they
    are told ``apart``."""
    named = {ALL: {name: [""] for name in choices}}
    found = compare({"": study, **choices}, halves, differences, kinds, named)
    names = {"low": "least", "high": "most"}
    return found.rename(columns=names).set_index("method")[BESIDE]


def table(
    grid: dict, known: dict, seconds: dict[str, float], apart: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One line a choice, indexed by factor and value: default, state, and what was measured.

    ``known``: see ``experiments``; ``seconds``: of one query, by name of the experiment; ``apart``:
    ``beside``. The default's line is the workspace's. A choice that failed or never ran says so and
    has no numbers. Raises KeyError for an ablation that the grid does not have.
    """
    if unknown := {n for n in known if n.startswith(PREFIX)} - {row.name for row in rows(grid)}:
        raise KeyError(
            f"experiments {sorted(unknown)} belong to no factor of the grid, which has "
            f"{sorted(grid)}"
        )
    lines = []
    for row in rows(grid):
        name = row.name if row.overrides else "workspace"
        one = known.get(name, {"state": "not run"})
        ran = one["state"] == "success"
        line = {"factor": row.factor, "value": row.value, "default": not row.overrides}
        line["state"] = "ran" if ran else one["state"]
        if ran:
            judged = one["metrics"].get(JUDGE, {}).get("lds", {}).get("abu", {})
            line |= one["metrics"].get(UNLEARN, {}) | {"seconds": seconds.get(name)}
            line |= {
                "lds": judged.get("mean"),
                "low": judged.get("low"),
                "high": judged.get("high"),
            }
            line |= apart.loc[name].to_dict() if apart is not None and name in apart.index else {}
        lines.append(line)
    return pd.DataFrame(lines).set_index(["factor", "value"]).reindex(columns=COLUMNS)


def stands(grid: dict, known: dict) -> pd.DataFrame | None:
    """``beside`` of the experiments of a grid that ran, by the bank that judged the study, their
    scores sharpened as AbU's; None where there is none, or too few pairs."""
    queries = read_queries(results("generate") / "queries.csv").query("not tuning")
    recorded = json.loads(Path("results/retrain/bank.json").read_text())["bank"]
    if not recorded:
        return None
    latents = np.load(results("generate") / "latents.npy")[queries["query"]]
    verdict = verdict_of(read_bank(Path(recorded)), queries.name, latents, tuning=False)
    if not verdict:
        return None
    sharpness = json.loads((results("tune") / "chosen.json").read_text())["abu"]["sharpness"]
    scored = lambda name: sharpen(scores_at(known[name]["rev"]), sharpness)[verdict.known]
    ran = [row.name for row in rows(grid) if row.overrides and succeeded(known, row.name)]
    choices, kinds = {name: scored(name) for name in ran}, queries.kind[verdict.known]
    return beside(scored("workspace"), choices, verdict.halves, verdict.differences, kinds)


def succeeded(known: dict, name: str) -> bool:
    """Whether an experiment ran to its end."""
    return known.get(name, {}).get("state") == "success"


def seconds_of() -> dict[str, float]:
    """Seconds of a query of AbU, by experiment; of the workspace where they were measured."""
    files = {"workspace": Path("results/costs.csv")}
    files |= {path.stem: path for path in Path("scratch/costs").glob("*.csv")}
    costs = {n: pd.read_csv(f, index_col="method") for n, f in files.items() if f.exists()}
    return {name: table.seconds_per_query.get("abu") for name, table in costs.items()}
