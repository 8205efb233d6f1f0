"""A notebook begins in its study, on the engine that it was given."""

from pathlib import Path

import torch

import abu
from abu.study.begin import begin_tasks
from abu.study.engines import Engine


def double(shared: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"twice": 2 * shared, "threads": torch.tensor([torch.get_num_threads()])}


def test_a_notebook_begins_in_its_study(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setattr(abu, "ROOT", tmp_path)
    threads = torch.get_num_threads()
    try:
        device, engine, run = begin_tasks("cpu", 2, "process", None, 3, 0.5)
        (result,) = run(double, torch.ones(2), {"a": ()}).values()
    finally:
        torch.set_num_threads(threads)
    assert Path.cwd() == tmp_path and device == torch.device("cpu")
    assert engine == Engine("process", None, 3, 0.5, "cpu")
    assert result["twice"].tolist() == [2, 2] and result["threads"].tolist() == [2]
    assert result.path.resolve().is_relative_to(tmp_path / "scratch")
