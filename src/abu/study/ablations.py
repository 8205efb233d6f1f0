"""Ablations: one factor at a time around the study, each choice a queued DVC experiment, read back
into one table.

``python -m abu.study.ablations`` queues what ``benchmarks/ablations.yaml`` lists and HEAD does not
have yet, and runs the queue. A choice runs the stages ``cache`` and ``unlearn`` of the trained
model alone, so the step stays as the study's ``tune`` chose it; with the argument ``evaluate`` the
judge follows: the model is trained again without the images that this AbU names.
"""

import json
import subprocess
import sys
from dataclasses import dataclass

import pandas as pd
from ruamel.yaml import YAML

from abu import ROOT

GRID = "benchmarks/ablations.yaml"
STAGES = {
    "unlearn": ["cache@base", "unlearn@base"],
    "evaluate": ["cache@base", "unlearn@base", "compare@base", "retrain", "evaluate"],
}
# the judge asks for nobody else
JUDGED = {"retrain.methods": ["abu"], "compare.methods": ["random"]}
PREFIX = "ablation-"
MEASURES = {  # heading -> metric, whether more is better (None: neither)
    "own pictures found": ("own_recall", True),
    "average precision": ("average_precision", True),
    "query's rise": ("target_rise", True),
    "others' rise": ("others_rise", False),
    "relative norm": ("relative_norm", None),
    "s a query": ("seconds", None),
    "ΔL of the judge": ("judge", True),
}
ERRORS = ("own_recall_se", "average_precision_se", "judge_se")


@dataclass(frozen=True)
class Row:
    """One choice of a factor: what it changes in ``params.yaml``; nothing for the study itself."""

    factor: str
    value: str
    overrides: dict

    def name(self, target: str = "unlearn") -> str:
        """Of the experiment that runs the choice up to ``target``."""
        return f"{PREFIX}{self.factor}-{self.value}".replace(" ", "-") + (
            "" if target == "unlearn" else f"-{target}"
        )


def rows(grid: dict) -> list[Row]:
    """Choices of a grid, factor -> value -> overrides."""
    return [
        Row(factor, str(value), overrides or {})
        for factor, values in grid.items()
        for value, overrides in values.items()
    ]


def commands(grid: dict, target: str, known: dict) -> list[list[str]]:
    """Arguments of dvc that queue the choices which ``known`` (see ``experiments``) has not, or has
    as failed.

    Raises ValueError for another target than those in STAGES, and for a mapping, which DVC merges
    into what is there: ``{}`` would change nothing.
    """
    if target not in STAGES:
        raise ValueError(f"target is {target!r}; expected one of {sorted(STAGES)}")
    for row in rows(grid):
        if merged := [key for key, value in row.overrides.items() if isinstance(value, dict)]:
            found = f"{row.factor} {row.value} gives {merged} a mapping, which DVC would merge"
            raise ValueError(f"{found}; expected its entries, as {merged[0]}.NAME: VALUE")
    also = JUDGED if target == "evaluate" else {}
    wanted = [
        row
        for row in rows(grid)
        if row.overrides and known.get(row.name(target), {}).get("state", "failed") == "failed"
    ]
    changes = lambda row: [
        part
        for key, value in (row.overrides | also).items()
        for part in ("-S", f"{key}={json.dumps(value)}")
    ]
    queue = ["exp", "run", "--queue", "--single-item", "--name"]
    return [[*queue, row.name(target), *changes(row), *STAGES[target]] for row in wanted]


def experiments(shown: list[dict]) -> dict[str, dict]:
    """State and metrics (by file) of experiments by name, and of the workspace, named
    ``workspace``, from ``dvc exp show --json``.

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
            }
    return found


def table(grid: dict, known: dict, seconds: dict[str, float]) -> pd.DataFrame:
    """One line a choice, indexed by factor and value: default, state, and what was measured.

    ``known``: see ``experiments``; ``seconds``: of one query, by name of the experiment. The
    default's line is the workspace's. A choice that failed or never ran says so and has no numbers;
    what the judge says comes from experiments that ran it, since the others carry the study's.
    Raises KeyError for an ablation that the grid does not have.
    """
    names = {row.name(target) for row in rows(grid) for target in STAGES}
    if unknown := {name for name in known if name.startswith(PREFIX)} - names:
        raise KeyError(
            f"experiments {sorted(unknown)} belong to no factor of the grid, which has "
            f"{sorted(grid)}"
        )
    lines = []
    for row in rows(grid):
        plain, judged = (
            row.name(target) if row.overrides else "workspace" for target in ("unlearn", "evaluate")
        )
        ran = [name for name in (judged, plain) if known.get(name, {}).get("state") == "success"]
        state = (
            "ran"
            if ran
            else next(
                (known[name]["state"] for name in (judged, plain) if name in known), "not run"
            )
        )
        metrics = known[ran[0]]["metrics"] if ran else {}
        line = {
            "factor": row.factor,
            "value": row.value,
            "default": not row.overrides,
            "state": state,
        }
        line |= metrics.get("results/unlearn/base/metrics.json", {}) | {
            "seconds": seconds.get(ran[0]) if ran else None
        }
        by_k = metrics.get("results/evaluate/metrics.json", {}) if judged in ran else {}
        most = max(
            (key for key in by_k if key.startswith("k=")),
            key=lambda key: int(key[2:]),
            default=None,
        )
        abu = by_k.get(most, {}).get("abu", {})
        lines.append(line | {"judge": abu.get("loss"), "judge_se": abu.get("loss_se")})
    metrics = [
        name
        for metric, _ in MEASURES.values()
        for name in (metric, f"{metric}_se")
        if name in (metric, *ERRORS)
    ]
    return (
        pd.DataFrame(lines)
        .set_index(["factor", "value"])
        .reindex(columns=["default", "state", *metrics])
    )


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
    """One number with its standard error, bold if it is the best of the choices in ``part``, unless
    all are equal."""
    if pd.isna(line[metric]):
        return ""
    error = line.get(f"{metric}_se")
    text = f"{line[metric]:.3g}" + (
        f" ± {error:.2g}" if error is not None and pd.notna(error) else ""
    )
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


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else "unlearn"
    for command in commands(
        YAML(typ="safe").load(ROOT / GRID),
        target,
        experiments(json.loads(dvc("exp", "show", "--json"))),
    ):
        dvc(*command)
    subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "run", "--run-all"], cwd=ROOT
    )  # a failure is a line of the table
