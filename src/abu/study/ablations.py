"""Ablations: one factor at a time around the study, each choice a queued DVC experiment, read back
into one table.

``python -m abu.study.ablations`` queues what ``benchmarks/ablations.yaml`` lists and HEAD does not
have yet, and runs the queue. A choice runs the stages of the trained model that follow, so the step
stays as the study's ``tune`` chose it, and is judged by the bank.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from dvc.api import open as dvc_open
from ruamel.yaml import YAML

from abu import ROOT
from abu.judge.lds import ALL, compare
from abu.study.commands import command

GRID = "benchmarks/ablations.yaml"
STAGES = ["cache@base", "unlearn@base", "compare@base", "evaluate"]
ALONE = {"compare.methods": ["random"]}  # the judge asks for nobody else
PREFIX = "ablation-"
UNLEARN, JUDGE = (f"results/{name}/metrics.json" for name in ("unlearn/base", "evaluate"))
MEASURES = {  # heading -> metric, whether more is better (None: neither)
    "LDS": ("lds", True),
    "beside the study": ("difference", None),
    "own pictures found": ("own_recall", True),
    "average precision": ("average_precision", True),
    "query's rise": ("target_rise", True),
    "others' rise": ("others_rise", False),
    "relative norm": ("relative_norm", None),
    "s a query": ("seconds", None),
}
BESIDE = ["difference", "least", "most", "p_holm", "apart"]
ERRORS = ("own_recall_se", "average_precision_se", "low", "high", *BESIDE[1:])
SCORES = "results/unlearn/base/scores.npy"


@dataclass(frozen=True)
class Row:
    """One choice of a factor: what it changes in ``params.yaml``; nothing for the study itself."""

    factor: str
    value: str
    overrides: dict

    @property
    def name(self) -> str:
        """Of the experiment that runs the choice."""
        return f"{PREFIX}{self.factor}-{self.value}".replace(" ", "-")


def rows(grid: dict) -> list[Row]:
    """Choices of a grid, factor -> value -> overrides."""
    return [
        Row(factor, str(value), overrides or {})
        for factor, values in grid.items()
        for value, overrides in values.items()
    ]


def commands(grid: dict, known: dict) -> list[list[str]]:
    """Arguments of dvc that queue the choices which ``known`` (see ``experiments``) has not, or has
    as failed.

    Raises ValueError for a mapping, which DVC merges into what is there: ``{}`` would change
    nothing.
    """
    for row in rows(grid):
        if merged := [key for key, value in row.overrides.items() if isinstance(value, dict)]:
            found = f"{row.factor} {row.value} gives {merged} a mapping, which DVC would merge"
            raise ValueError(f"{found}; expected its entries, as {merged[0]}.NAME: VALUE")
    new = lambda row: known.get(row.name, {}).get("state", "failed") == "failed"
    changes = lambda row: [
        part
        for key, value in (row.overrides | ALONE).items()
        for part in ("-S", f"{key}={json.dumps(value)}")
    ]
    queue = ["exp", "run", "--queue", "--single-item", "--name"]
    wanted = [row for row in rows(grid) if row.overrides and new(row)]
    return [[*queue, row.name, *changes(row), *STAGES] for row in wanted]


def experiments(shown: list[dict]) -> dict[str, dict]:
    """State, metrics (by file) and revision of experiments by name, and of the workspace, named
    ``workspace``, whose revision is None, from ``dvc exp show --json``.

    Of several runs of one name the one that came furthest counts. A metric file that could not be
    read is left out.
    """
    read = lambda state: {
        path: found["data"]
        for path, found in ((state["data"] or {}).get("metrics") or {}).items()
        if "data" in found
    }
    found = {
        "workspace": {
            "state": "success",
            "metrics": read(next(s for s in shown if s["rev"] == "workspace")),
            "rev": None,
        }
    }
    order = ["failed", "queued", "running", "success"]
    for run in (run for baseline in shown for run in baseline["experiments"] or []):
        first, state = run["revs"][0], (run["executor"] or {"state": "success"})["state"]
        before = found.get(run["name"])
        if before is None or order.index(state) >= order.index(before["state"]):
            found[run["name"]] = {
                "state": state,
                "metrics": read(first) if state == "success" else {},
                "rev": first["rev"],
            }
    return found


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
    columns = ["default", "state", *[metric for metric, _ in MEASURES.values()], *ERRORS]
    return pd.DataFrame(lines).set_index(["factor", "value"]).reindex(columns=columns)


def markdown(table: pd.DataFrame) -> str:
    """The table in the paper's form: choices of one factor under each other, the default marked,
    the best value of a factor bold."""
    shown = {
        heading: measure for heading, measure in MEASURES.items() if table[measure[0]].notna().any()
    }
    lines = [["", "", *shown], ["---"] * (2 + len(shown))]
    for factor, part in table.groupby(level="factor", sort=False):
        for place, ((_, value), line) in enumerate(part.iterrows()):
            cells = [cell(part, line, metric, more) for metric, more in shown.values()]
            label = f"{value} (default)" if line.default else value
            cells = cells if line.state == "ran" else [line.state, *[""] * (len(shown) - 1)]
            lines.append([factor if place == 0 else "", label, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cell(part: pd.DataFrame, line: pd.Series, metric: str, more: bool | None) -> str:
    """One number with its interval or standard error, bold if it is the best of the choices in
    ``part``, unless all are equal; what stands beside the study, if it is told apart."""
    if pd.isna(line[metric]):
        return ""
    error = line.get(f"{metric}_se")
    if metric == "difference":
        text = f"{line.difference:+.2f} ({line.least:+.2f} to {line.most:+.2f})"
        return f"**{text}**" if line.apart else text
    text = f"{line[metric]:.3g}"
    if metric == "lds" and pd.notna(line.low):
        text += f" ({line.low:.2f} to {line.high:.2f})"
    elif error is not None and pd.notna(error):
        text += f" ± {error:.2g}"
    best = None if more is None else part[metric].max() if more else part[metric].min()
    return f"**{text}**" if line[metric] == best and part[metric].nunique() > 1 else text


def dvc(*arguments: str) -> str:
    """What dvc prints; its messages pass through."""
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def main() -> None:
    """Queue what HEAD does not have yet, and run the queue."""
    grid = YAML(typ="safe").load(ROOT / GRID)
    for words in commands(grid, experiments(json.loads(dvc("exp", "show", "--json")))):
        dvc(*words)
    subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "run", "--run-all"], cwd=ROOT
    )  # a failure is a line of the table


if __name__ == "__main__":
    command(main, __doc__)
