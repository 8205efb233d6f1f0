"""Ablations: one factor at a time around the study, each choice a queued DVC experiment.

``python -m abu.study.ablations`` queues what ``benchmarks/ablations.yaml`` lists and HEAD does not
have yet, and runs the queue. A choice runs the stages of the trained model that make AbU's scores,
so the step stays as the study's ``tune`` chose it; the notebook has the bank judge them.
"""

import json
import subprocess
import sys
from dataclasses import dataclass

from abu import ROOT
from abu.study.commands import command
from abu.study.folders import read_yaml

GRID = "benchmarks/ablations.yaml"
STAGES = ["cache@base", "unlearn@base"]
PREFIX = "ablation-"


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
            said = f"{row.factor} {row.value} gives {merged} a mapping, which DVC would merge"
            raise ValueError(f"{said}; expected its entries, as {merged[0]}.NAME: VALUE")
    new = lambda row: known.get(row.name, {}).get("state", "failed") == "failed"
    changes = lambda row: [f"--set-param={k}={json.dumps(v)}" for k, v in row.overrides.items()]
    queue = ["exp", "run", "--queue", "--single-item", "--name"]
    wanted = [row for row in rows(grid) if row.overrides and new(row)]
    return [[*queue, row.name, *changes(row), *STAGES] for row in wanted]


def experiments(shown: list[dict]) -> dict[str, dict]:
    """State, metrics (by file) and revision of experiments by name, and of the workspace, named
    ``workspace``, whose revision is None, from ``dvc exp show --json``.

    Of several runs of one name the one that came furthest counts. A metric file that could not be
    read is left out.
    """

    def told(revision: dict, state: str) -> dict:
        files = ((revision["data"] or {}).get("metrics") or {}) if state == "success" else {}
        metrics = {path: file["data"] for path, file in files.items() if "data" in file}
        return {"state": state, "metrics": metrics, "rev": revision["rev"]}

    workspace = next(revision for revision in shown if revision["rev"] == "workspace")
    known = {"workspace": told(workspace, "success") | {"rev": None}}
    order = ["failed", "queued", "running", "success"]
    for run in (run for baseline in shown for run in baseline["experiments"] or []):
        state = (run["executor"] or {"state": "success"})["state"]
        before = known.get(run["name"], {"state": "failed"})["state"]
        if order.index(state) >= order.index(before):
            known[run["name"]] = told(run["revs"][0], state)
    return known


def dvc(*arguments: str) -> str:
    """What dvc prints; its messages pass through."""
    words = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Queue what HEAD does not have yet, and run the queue."""
    grid = read_yaml(ROOT / GRID)
    for words in commands(grid, experiments(json.loads(dvc("exp", "show", "--json")))):
        dvc(*words)
    queue = [sys.executable, "-m", "dvc", "exp", "run", "--run-all"]
    subprocess.run(queue, cwd=ROOT)  # a failure is a line of the table


if __name__ == "__main__":
    command(main, __doc__)
