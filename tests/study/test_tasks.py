"""Named tasks: finished ones are kept, and Ray gives what this process gives."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from abu.study.engines import Engine, check_room
from abu.study.tasks import run_tasks, stacked, summed

RAY = Engine("ray")


def multiply(shared: torch.Tensor, factor: int, log: str) -> dict[str, torch.Tensor]:
    with open(log, "a") as file:
        file.write(f"{factor}\n")
    if factor == 13:
        raise ValueError("unlucky")
    return {"product": shared * factor, "factor": torch.tensor([factor])}


def die_once(shared: torch.Tensor, factor: int, mark: str) -> dict[str, torch.Tensor]:
    """The first worker that gets here is killed in mid-task."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"product": shared * factor}


def add(shared: None, first: dict, second: dict) -> dict[str, torch.Tensor]:
    return {"sum": first["product"] + second["product"]}


def products(results: dict) -> dict[str, list]:
    return {name: result["product"].tolist() for name, result in results.items()}


def test_finished_tasks_are_kept_and_a_failure_loses_only_its_own(tmp_path: Path) -> None:
    shared, log, folder = torch.arange(3.0), tmp_path / "log", tmp_path / "tasks"
    tasks = {str(f): (f, str(log)) for f in (2, 3, 13, 4)}
    with pytest.raises(ValueError, match="unlucky\nin task '13'"):
        run_tasks(multiply, shared, tasks, scratch=folder)
    kept = sorted(path.name.split("-")[0] for path in folder.rglob("*.npz"))
    assert kept == ["2", "3"]
    asked = {name: tasks[name] for name in ("4", "3", "2")}
    found = run_tasks(multiply, shared, asked, scratch=folder)
    assert log.read_text().split() == ["2", "3", "13", "4"]
    assert products(found) == {"4": [0, 4, 8], "3": [0, 3, 6], "2": [0, 2, 4]}
    assert list(found) == ["4", "3", "2"] and found["4"].seconds > 0
    late = {"9": (9, str(log)), "2": (2, str(log))}
    assert list(run_tasks(multiply, shared, late, hours=0, scratch=folder)) == ["2"]
    with pytest.raises(ValueError, match="engine is 'spark'"):
        Engine("spark")


def test_named_tensors_of_several_results(tmp_path: Path) -> None:
    tasks = {str(f): (f, str(tmp_path / "log")) for f in (2, 3)}
    found = run_tasks(multiply, torch.arange(3.0), tasks, scratch=tmp_path)
    assert set(found["2"].tensors()) == {"product", "factor"}
    assert stacked(found.values())["product"].tolist() == [[0, 2, 4], [0, 3, 6]]
    mean = summed((result.tensors() for result in found.values()), 2)
    assert mean["product"].tolist() == [0, 2.5, 5] and mean["factor"].tolist() == [2.5]


@pytest.mark.slow
def test_ray_gives_the_same_and_keeps_what_is_finished(tmp_path: Path, cluster) -> None:
    shared, log, there = torch.arange(4.0), tmp_path / "log", tmp_path / "there"
    tasks = {str(f): (f, str(log)) for f in range(5)}
    by_process = run_tasks(multiply, shared, tasks, scratch=tmp_path / "here")
    by_ray = run_tasks(multiply, shared, tasks, RAY, scratch=there)
    assert products(by_process) == products(by_ray) and list(by_ray) == list(tasks)
    assert len(log.read_text().split()) == 10
    run_tasks(multiply, shared, tasks, RAY, scratch=there)
    assert len(log.read_text().split()) == 10
    with pytest.raises(ValueError, match="unlucky\nin task '13'"):
        run_tasks(multiply, shared, {"13": (13, str(log))}, RAY, scratch=there)
    for engine in (Engine(), RAY):
        pair = {"a+b": (by_process["2"], by_process["3"])}
        both = run_tasks(add, None, pair, engine, scratch=tmp_path / engine.name)
        assert both["a+b"]["sum"].tolist() == [0, 5, 10, 15], "a task that is given results"


SMALL = {"Alive": True, "Resources": {"CPU": 4.0, "memory": 1e9}}
LARGE = {"Alive": True, "Resources": {"CPU": 2.0, "GPU": 8.0}}
DEAD = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 64.0}}
NODES = r"the 2 nodes of the cluster have 2 CPUs and 8 GPUs, 4 CPUs and 0 GPUs"


@pytest.mark.parametrize(
    "engine, nodes, here, message",
    [
        (Engine("ray", None, 5), [SMALL, LARGE, DEAD], True, f"task_cpus is 5, .*no node.*{NODES}"),
        (Engine("ray", None, 3, 1.0), [SMALL, LARGE], True, f"task_gpus 1: no node.*{NODES}"),
        (Engine("ray", None, 1, 9.0, "auto"), [LARGE], True, "task_gpus 9: no node can hold"),
        (Engine("ray", None, 1), [DEAD], False, "no node can hold a task; the 0 nodes"),
        (Engine("ray", None, 1, 0.0, "auto"), [SMALL, LARGE], True, f"0: Ray hides.*{NODES}"),
        (Engine("ray", None, 1, 0.0, "cuda"), [LARGE], False, "Ray hides GPUs from such tasks"),
        (Engine("ray", None, 1, 0.0, "cuda:1"), [LARGE], True, "Ray hides GPUs from such tasks"),
        (Engine("ray", None, 1, 1.0, "auto"), [LARGE], False, "auto, and this process has no GPU"),
        (Engine("ray", None, 1, 1.0, "cpu"), [LARGE], True, "cpu, and tasks would leave GPUs"),
        (Engine("ray", None, 4), [SMALL, LARGE], True, None),
        (Engine("ray", None, 2, 0.25, "auto"), [SMALL, LARGE], True, None),
        (Engine("ray", None, 4, 0.0, "auto"), [SMALL], False, None),
        (Engine("ray", None, 2, 0.0, "cpu"), [LARGE], True, None),
    ],
)
def test_a_cluster_without_room_is_refused(engine, nodes, here, message) -> None:
    if message is None:
        return check_room(engine, nodes, here)
    with pytest.raises(ValueError, match=message):
        check_room(engine, nodes, here)


@pytest.mark.slow
def test_no_task_waits_for_ever(tmp_path: Path, cluster) -> None:
    log, begin = tmp_path / "log", time.monotonic()
    for engine in (Engine("ray", cpus=64), Engine("ray", gpus=1.0, device="auto")):
        with pytest.raises(ValueError, match="no node can hold a task; the 1 nodes .* 2 CPUs"):
            run_tasks(multiply, torch.arange(3.0), {"2": (2, str(log))}, engine, scratch=tmp_path)
    assert time.monotonic() - begin < 10 and not log.exists()


@pytest.mark.slow
def test_a_task_whose_worker_is_killed_is_run_again(tmp_path: Path, cluster) -> None:
    shared, mark = torch.arange(4.0), tmp_path / "mark"
    tasks = {"a": (2, str(mark)), "b": (3, str(mark))}
    there = run_tasks(die_once, shared, tasks, RAY, scratch=tmp_path / "there")
    assert mark.exists()
    here = run_tasks(die_once, shared, tasks, scratch=tmp_path / "here")
    assert products(there) == products(here)


def where(shared: torch.Tensor, factor: int, log: str) -> dict[str, torch.Tensor]:
    result = multiply(shared, factor, log)
    return result | {"process": torch.tensor([os.getpid(), torch.get_num_threads()])}


def test_a_pool_gives_the_same_from_other_processes(tmp_path: Path) -> None:
    shared, log = torch.arange(4.0), tmp_path / "log"
    tasks, threads = {str(f): (f, str(log)) for f in range(5)}, torch.get_num_threads()
    here = run_tasks(where, shared, tasks, scratch=tmp_path / "here")
    torch.set_num_threads(2)
    try:
        there = run_tasks(where, shared, tasks, Engine("pool"), scratch=tmp_path / "there")
        with pytest.raises(ValueError, match="unlucky\nin task '13'"):
            unlucky = {str(f): (f, str(log)) for f in (13, 14)}
            run_tasks(where, shared, unlucky, Engine("pool"), scratch=tmp_path / "there")
        pair = {name: (here["2"], here["3"]) for name in ("a", "b")}
        both = run_tasks(add, None, pair, Engine("pool"), scratch=tmp_path / "sum")
    finally:
        torch.set_num_threads(threads)
    assert products(there) == products(here) and list(there) == list(tasks)
    assert both["a"]["sum"].tolist() == [0, 5, 10, 15], "a task that is given results"
    workers = [result["process"].tolist() for result in there.values()]
    assert os.getpid() not in {pid for pid, _ in workers} and {n for _, n in workers} == {1}


def test_a_pool_without_room_for_two_runs_here(tmp_path: Path) -> None:
    tasks = {str(f): (f, str(tmp_path / "log")) for f in range(2)}
    engine = Engine("pool", cpus=torch.get_num_threads())
    found = run_tasks(where, torch.arange(2.0), tasks, engine, scratch=tmp_path)
    assert {result["process"][0].item() for result in found.values()} == {os.getpid()}
