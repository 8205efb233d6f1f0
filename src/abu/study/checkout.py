"""A study in another checkout than the one that ``abu`` was installed from, such as the folder of a
queued DVC experiment."""

import os
import sys
from pathlib import Path

from abu import ROOT
from abu.study.folders import read_yaml
from abu.study.sources import link_named


def settle(here: Path) -> None:
    """Make ``here`` a study of its own if ``abu`` was installed from another checkout.

    Modules: the process starts again with those of ``here``. Finished tasks: a queued experiment
    shares the ``scratch/`` of the study that queued it, which DVC names; folders in it are named by
    all inputs. What parameters name and git ignores, own data, is linked likewise.
    """
    if not (here / "src/abu/study/run.py").exists():
        return
    study, scratch = Path(os.environ.get("DVC_ROOT", here)).resolve(), here / "scratch"
    if study != here and not scratch.exists():
        (study / "scratch").mkdir(exist_ok=True)
        scratch.symlink_to(study / "scratch")
    if study != here:
        link_named(read_yaml(here / "params.yaml"), here, study)
    modules = str(here / "src")
    if here != ROOT and os.environ.get("PYTHONPATH") != modules:
        again = [sys.executable, "-m", "abu.study.run", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | {"PYTHONPATH": modules})
