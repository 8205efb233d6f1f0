"""``batch_size: auto``: the rows of a pass by which this machine is fastest, as
``abu.study.fastest`` measured them once for a model. Batches change results by rounding alone,
since noise is drawn by name."""

import os
import platform
import subprocess
import sys
from pathlib import Path

from abu.study.folders import read_json

AUTO = "auto"
USUAL = 64  # where nothing was measured
KEPT, TRAINED = Path("scratch/batch.json"), Path("results/train/train.json")


def threads_of(common: dict) -> int:
    """CPU threads of a task, by the ``common`` parameters."""
    asked = common["threads"] if common["engine"] == "process" else common["task_cpus"]
    return asked or os.cpu_count() or 1


def place(common: dict, root: Path) -> str:
    """What a number was measured for: machine, device, threads of a task, trained model."""
    model = read_json(root / TRAINED)["model"]
    return f"{platform.node()}, {common['device']}, {threads_of(common)} threads, {model}"


def kept(common: dict, root: Path) -> int | None:
    """The number that was measured; None before, or before there is a model."""
    file = root / KEPT
    if not file.is_file() or not (root / TRAINED).is_file():
        return None
    return read_json(file).get(place(common, root), {}).get("batch_size")


def numbered(study: dict, root: Path, measure: bool = False) -> dict:
    """All of ``params.yaml`` with a number in place of each ``auto``: what was measured, in a
    process of its own if it was not (``measure``), else ``USUAL``."""

    def number(section: object) -> object:
        if not isinstance(section, dict):
            return section
        inner = {name: number(value) for name, value in section.items()}
        if section.get("batch_size") != AUTO:
            return inner
        if measure and not kept(study["common"], root):
            command = [sys.executable, "-m", "abu.study.fastest"]
            subprocess.run(command, check=True, cwd=root)
        return inner | {"batch_size": kept(study["common"], root) or USUAL}

    return {name: number(section) for name, section in study.items()}
