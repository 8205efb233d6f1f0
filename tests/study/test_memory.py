"""A stage that runs out of memory says which of its parameters make it smaller."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from papermill.exceptions import PapermillExecutionError
from test_declarations import root_with

from abu import ROOT
from abu.study.run import execute

KILL = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
CARD = "import torch\nraise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')"
CPU = "import torch\ntorch.empty(10**15)"
NUMPY = "import numpy\nnumpy.empty(10**16)"


def study(root: Path, stage: str, code: str) -> Path:
    """A study whose notebook of a stage has its parameters, and then ``code`` alone."""
    path = root_with(root, ROOT / "params.yaml") / "notebooks" / f"{stage}.ipynb"
    notebook = nbformat.read(path, 4)
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    notebook.cells = [*tagged, nbformat.v4.new_code_cell(code)]
    nbformat.write(notebook, path)
    return root


FEWER = " or the number of tasks at once, by larger common.task_cpus or task_gpus,"


@pytest.mark.parametrize(
    "code, why",
    [
        (KILL, "its kernel died, as when the system kills a process for memory"),
        (CARD, "out of memory .OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB."),
        (CPU, "out of memory .RuntimeError: .*can't allocate memory"),
        (NUMPY, "out of memory .*MemoryError: Unable to allocate"),
    ],
)
def test_it_names_what_makes_it_smaller(code: str, why: str, tmp_path: Path) -> None:
    expected = (
        rf"results/cache-base.ipynb: {why}.*; make cache.batch_size \(now 64\) or cache.shard "
        rf"\(now 128\){FEWER} smaller; it had taken \d+\.\d\d GB at its peak; "
        "python -m abu.study.run plan"
    )
    with pytest.raises(MemoryError, match=expected):
        execute("cache", {}, study(tmp_path, "cache", code))


def test_it_says_what_the_plan_predicted_and_where_a_value_stands(tmp_path: Path) -> None:
    study(tmp_path, "unlearn", CARD)
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("regions: {} # as", "batch_size: 64 # as"))
    (tmp_path / "results/plan").mkdir(parents=True)
    header = "stage,system,seconds,memory,accelerator,disk\n"
    row = "unlearn,panda,60.0,3210000000.0,1500000000.0,5.0\n"
    (tmp_path / "results/plan/plan.csv").write_text(header + row)
    expected = (
        r"results/unlearn-panda.ipynb: .*make changes.customized.unlearn.batch_size \(now 64\)"
        rf"{FEWER} smaller; .*; the plan predicted 3.21 GB, and 1.50 GB of an accelerator"
    )
    with pytest.raises(MemoryError, match=expected):
        execute("unlearn", {"system": "panda"}, tmp_path)


def test_a_stage_without_batches_says_so(tmp_path: Path) -> None:
    with pytest.raises(MemoryError, match="none of evaluate's parameters is a batch"):
        execute("evaluate", {}, study(tmp_path, "evaluate", KILL))
    with pytest.raises(MemoryError, match=r"cache.shard \(now 128\) smaller"):
        execute("cache", {"engine": "process"}, study(tmp_path, "cache", CARD))


def test_another_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(PapermillExecutionError, match="ValueError: memory of an elephant"):
        execute("cache", {}, study(tmp_path, "cache", "raise ValueError('memory of an elephant')"))
    done = json.loads((ROOT / "notebooks/cache.ipynb").read_text())
    assert len(done["cells"]) > 2, "the study's own notebook is not touched"


TWO = "import os, time; held = os.urandom(1) * (300 << 20); time.sleep(3 if os.fork() else 2)"
WATCHED = f"""
import subprocess, sys
from abu.study.memory import Watch
with Watch() as watch:
    subprocess.run([sys.executable, "-c", {TWO!r}])
print(watch.peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="others do not tell what processes share")
def test_what_processes_share_counts_once() -> None:
    said = subprocess.run([sys.executable, "-c", WATCHED], check=True, capture_output=True)
    assert 300 << 20 < int(said.stdout) < 400 << 20
