"""What ablations gave, read back from their experiments into one table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from dvc.api import open as dvc_open

from abu import ROOT
from abu.data.queries import read_queries
from abu.judge.bank import read_bank
from abu.judge.lds import ALL, compare, table_of
from abu.judge.sharpen import sharpen
from abu.judge.verdict import verdict_of
from abu.study.ablations import PREFIX, rows
from abu.study.folders import read_json, results

STUDY = "workspace"
"""Name of the study itself among experiments."""
UNLEARN, SCORES = (f"results/unlearn/base/{name}" for name in ("metrics.json", "scores.npy"))
JUDGED = ["lds", "low", "high", "difference", "least", "most", "p_holm", "apart"]
METRICS = ["own_recall", "average_precision", "target_rise", "others_rise", "relative_norm"]
ERRORS = ["own_recall_se", "average_precision_se"]
COLUMNS = ["default", "state", *JUDGED, *METRICS, "seconds", *ERRORS]


def scores_at(revision: str | None) -> np.ndarray:
    """AbU's scores [Q, N] at a revision, or (None) in the workspace."""
    with dvc_open(SCORES, repo=str(ROOT), rev=revision, mode="rb") as file:
        return np.load(file)


def beside(
    scores: dict[str, np.ndarray], halves: np.ndarray, differences: np.ndarray, kinds: Sequence[str]
) -> pd.DataFrame:
    """Linear datamodelling scores of the study (``STUDY``) and of choices, by name, from scores
    [Q, N] over the same pairs and queries (``abu.judge.lds.table_of``), and of each choice that
    less the study's (``abu.judge.lds.compare``): ``difference``, the ends ``least`` and ``most`` of
    its 95 % interval, ``p_holm``, corrected for the number of choices, and whether they are told
    ``apart``."""
    table = table_of(scores, halves, differences, kinds)
    named = {ALL: {name: [STUDY] for name in scores if name != STUDY}}
    compared = compare(scores, halves, differences, kinds, named)
    compared = compared.rename(columns={"low": "least", "high": "most"}).set_index("method")
    over_all = table[table.kind == ALL].set_index("method")[JUDGED[:3]]
    return over_all.join(compared[JUDGED[3:]])


def table(
    grid: dict, known: dict, seconds: dict[str, float], judged: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One line a choice, indexed by factor and value: default, state, and what was measured.

    ``known``: see ``experiments``; ``seconds``: of one query, by name of the experiment;
    ``judged``: ``beside``. The default's line is the workspace's. A choice that failed or never ran
    says so and has no numbers. Raises KeyError for an ablation that the grid does not have.
    """
    if unknown := {n for n in known if n.startswith(PREFIX)} - {row.name for row in rows(grid)}:
        raise KeyError(
            f"experiments {sorted(unknown)} belong to no factor of the grid, which has "
            f"{sorted(grid)}"
        )
    lines = []
    for row in rows(grid):
        name = row.name if row.overrides else STUDY
        one = known.get(name, {"state": "not run"})
        ran = one["state"] == "success"
        line = {"factor": row.factor, "value": row.value, "default": not row.overrides}
        line["state"] = "ran" if ran else one["state"]
        if ran:
            line |= one["metrics"].get(UNLEARN, {}) | {"seconds": seconds.get(name)}
            line |= judged.loc[name] if judged is not None and name in judged.index else {}
        lines.append(line)
    return pd.DataFrame(lines).set_index(["factor", "value"]).reindex(columns=COLUMNS)


def judged(grid: dict, known: dict) -> pd.DataFrame | None:
    """``beside`` of the study and of the experiments of a grid that ran, by the bank that judged
    the study, their scores sharpened as AbU's; None where there is no bank, or too few pairs."""
    queries = read_queries(results("generate") / "queries.csv").query("not tuning")
    recorded = read_json("results/retrain/bank.json")["bank"]
    if not recorded:
        return None
    latents = np.load(results("generate") / "latents.npy")[queries["query"]]
    verdict = verdict_of(read_bank(Path(recorded)), queries.name, latents, tuning=False)
    if not verdict:
        return None
    sharpness = read_json(results("tune") / "chosen.json")["abu"]["sharpness"]
    scored = lambda name: sharpen(scores_at(known[name]["rev"]), sharpness)[verdict.known]
    succeeded = lambda name: known.get(name, {}).get("state") == "success"
    ran = [row.name for row in rows(grid) if row.overrides and succeeded(row.name)]
    scores = {name: scored(name) for name in [STUDY, *ran]}
    return beside(scores, verdict.halves, verdict.differences, queries.kind[verdict.known])


def seconds_of() -> dict[str, float]:
    """Seconds of a query of AbU, by experiment; of the workspace where they were measured."""
    files = {STUDY: Path("results/costs.csv")}
    files |= {path.stem: path for path in Path("scratch/costs").glob("*.csv")}
    costs = {n: pd.read_csv(f, index_col="method") for n, f in files.items() if f.exists()}
    return {name: table.seconds_per_query.get("abu") for name, table in costs.items()}
