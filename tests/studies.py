"""Studies in folders of their own, with parameters of their own, run as a user runs them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from abu import ROOT
from abu.study.presets import apply

read = YAML(typ="safe").load
IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache")


def study_in(
    root: Path, params: Path = ROOT / "tests/params.yaml", changes: dict | None = None
) -> Path:
    """Notebooks, modules, data and stages in ``root``, a git repository or not. ``params``, or a
    preset on ``params.yaml``, then ``changes`` in a preset's form, are its parameters."""
    for name in ("notebooks", "src", "data"):
        shutil.copytree(ROOT / name, root / name, ignore=IGNORED)
    shutil.copytree(ROOT / "results/sources", root / "results/sources")
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / ".dvcignore").write_text("__pycache__/\nscratch/\n")
    if params.parent == ROOT / "presets":
        shutil.copy(ROOT / "params.yaml", root)
        apply(params, root / "params.yaml")
    else:
        shutil.copy(params, root / "params.yaml")
    YAML().dump(json.loads(json.dumps(changes or {})), root / "changes.yaml")  # no anchors
    apply(root / "changes.yaml", root / "params.yaml")
    (root / "changes.yaml").unlink()
    dvc(root, "init --quiet" if (root / ".git").exists() else "init --no-scm --quiet")
    dvc(root, "add --quiet data")
    return root


def found_from(root: Path, **more: str) -> dict[str, str]:
    """Environment in which a study finds its own modules."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(root / "src"), **more}


def called(root: Path, *words: str, **more: str) -> str:
    """What a command prints in a study."""
    options = {"capture_output": True, "text": True}
    done = subprocess.run(words, cwd=root, env=found_from(root, **more), **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def dvc(root: Path, command: str) -> str:
    return called(root, sys.executable, "-m", "dvc", *command.split())


def begin(root: Path) -> None:
    """All stages by ``dvc repro`` in a session of its own, beside what else is done; ``ended``
    waits for it, ``end`` ends it, whichever process began it."""
    line = f'"{sys.executable}" -m dvc repro --quiet > "{root}.log" 2>&1; echo $? > "{root}.code"'
    process = subprocess.Popen(
        line, shell=True, cwd=root, env=found_from(root), start_new_session=True
    )
    Path(f"{root}.pid").write_text(str(process.pid))


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def ended(root: Path) -> int | None:
    """The code with which what was begun there has ended; None where something killed it."""
    while runs(int(Path(f"{root}.pid").read_text())):
        time.sleep(0.5)
    code = Path(f"{root}.code")
    return int(code.read_text()) if code.is_file() else None


def end(root: Path) -> None:
    pid = Path(f"{root}.pid")
    if pid.is_file() and runs(int(pid.read_text())):
        os.killpg(int(pid.read_text()), signal.SIGTERM)


def run_stage(root: Path, stage: str, *pairs: str) -> None:
    """One stage without DVC."""
    called(root, sys.executable, "-m", "abu.study.run", stage, *pairs)


def named(lines: str) -> list[str]:
    """Stages that ``dvc repro`` ran or, dry, would run."""
    return [line.split("'")[1] for line in lines.splitlines() if line.startswith("Running stage")]
