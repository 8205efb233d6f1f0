"""What stages took, as the runner records it, and the plan held against that."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from abu import ROOT
from abu.study.costs import MEASURED, STAGE, STAGES, read, record
from abu.study.evidence import scored
from abu.study.run import execute


def test_costs_of_stages_are_kept_by_stage_and_system(tmp_path):
    path = tmp_path / "stages.csv"
    record({("train", ""): {"seconds": 1, "disk_bytes": 2}}, path, STAGE, MEASURED)
    more = {("cache", "panda"): {"seconds": 3.0}, ("train", ""): {"seconds": 4.0}}
    record(more, path, STAGE, MEASURED)
    found = read(path, STAGE, MEASURED)
    assert found.seconds.to_dict() == {("train", ""): 4.0, ("cache", "panda"): 3.0}
    assert found.disk_bytes[("train", "")] == 2 and np.isnan(found.disk_bytes[("cache", "panda")])
    assert path.read_text().splitlines()[0] == "stage,system,seconds,peak_bytes,disk_bytes"
    with pytest.raises(KeyError, match="hours.* is unknown"):
        record({("cache", ""): {"hours": 1}}, path, STAGE, MEASURED)


def test_costs_of_methods_are_set_column_by_column(tmp_path):
    path = tmp_path / "costs.csv"
    record({"abu": {"seconds_once": 2}, "pixel": {"bytes": 3}}, path)
    record({"abu": {"seconds_per_query": 0.5}}, path)
    table = pd.read_csv(path, index_col="method")
    assert table.loc["abu", ["seconds_once", "seconds_per_query"]].tolist() == [2, 0.5]
    assert table.bytes["pixel"] == 3
    with pytest.raises(KeyError, match="cost .'minutes'"):
        record({"abu": {"minutes": 1}}, path)


class Known:
    """Evidence that is there."""

    once, each, storage = {"pixels": 3.0}, {"pixels": 4.0, "latents": 9.0}, {"pixels": 12}
    shared = SimpleNamespace(queries=["a", "b"])

    def __call__(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.eye(2, 3), torch.eye(3)


def test_a_method_costs_what_its_evidence_took() -> None:
    values, cost = scored("pixel", Known(), {})
    assert values.argmax(1).tolist() == [0, 1]
    assert (cost["seconds_once"], cost["bytes"]) == (3, 12) and 2 < cost["seconds_per_query"] < 3


def test_runner_hands_over_the_study_and_records_what_it_took(tmp_path):
    declared = 'study: dict = {}\nword: str = ""\nout: str = ""'
    work = "held = bytearray(200_000_000)\n"
    work += "open(f'{out}/file', 'w').write(study['common']['word'] * 500)"
    tags = {"tags": ["parameters"]}
    cells = [nbformat.v4.new_code_cell(declared, metadata=tags), nbformat.v4.new_code_cell(work)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    (tmp_path / "notebooks").mkdir()
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, tmp_path / "notebooks" / "toy.ipynb")
    params = "common: {word: hi}\nsystems: {}\nchanges: {}\ntoy: {}\n"
    (tmp_path / "params.yaml").write_text(params)
    execute("toy", {}, tmp_path)
    assert (tmp_path / "results/toy/file").read_text() == "hi" * 500
    took = read(tmp_path / STAGES, STAGE, MEASURED).loc[("toy", "")]
    assert took.disk_bytes == 1000 and took.peak_bytes > 200e6 and 0 < took.seconds < 300


def test_plan_runs_on_its_own_and_meets_what_was_measured(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("notebooks", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    (tmp_path / "data").symlink_to(ROOT / "data")
    shutil.copy(ROOT / "tests/params.yaml", tmp_path)
    took = {("train", ""): {"seconds": 1e6}, ("cache", "base"): {"seconds": 1e-3}}
    record(took, tmp_path / STAGES, STAGE, MEASURED)
    command = [sys.executable, "-m", "abu.study.run", "plan", "seconds=0.01", "threads=1"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    table = pd.read_csv(tmp_path / "results/plan/plan.csv", keep_default_na=False)
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert set(table.stage) == stages.keys() - {"sources"}  # which takes no time
    assert (table.seconds > 0).all() and (table.memory > 1e8).all()
    assert set(table.stage[table.disk == 0]) == {"customize"}  # of the base system
    cells = nbformat.read(tmp_path / "results/plan.ipynb", 4).cells
    outputs = [str(output) for cell in cells for output in cell.get("outputs", [])]
    assert (
        "0 of 1 stages of at least 20 s are predicted within a factor of 2; not: train."
        in (outputs[-1])
    )
    assert any("image/png" in output for output in outputs)
    assert ("plan", "") in read(tmp_path / STAGES, STAGE, MEASURED).index
