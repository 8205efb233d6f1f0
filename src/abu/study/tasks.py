"""Named tasks whose results are kept: run in this process, or on Ray.

A task that was finished before is read, not run, so a list may be killed at any time and gone on
with: what is lost is what was in flight.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from abu.data.files import write_atomically
from abu.data.progress import track
from abu.data.readers import Tensors
from abu.study.keys import key, key_of

ENGINES = ("process", "ray")
SECONDS = "seconds"  # beside the tensors of a finished task
NOT_HASHED = {"hashed": False}


@dataclass(frozen=True)
class Engine:
    """Where tasks run: ``process``, one after the other here; ``ray``, as many at once as the
    cluster at ``address`` (None: a local one) has room for, each with ``cpus`` threads and
    ``gpus`` accelerators (a fraction shares one). ``device``: that which the study asks for,
    ``auto`` or cuda where a task has accelerators. Raises ValueError for another name."""

    name: str = "process"
    address: str | None = None
    cpus: int = 1
    gpus: float = 0.0
    device: str = "cpu"
    retries: int = 3  # of a task whose worker dies

    def __post_init__(self):
        if self.name not in ENGINES:
            raise ValueError(f"engine is {self.name!r}; expected one of {ENGINES}")


@dataclass(frozen=True)
class Result:
    """Named tensors that a task returned, read from its file when asked for, and the seconds that
    it took."""

    name: str  # holds all that went into it (``abu.study.keys``)
    path: Path = field(metadata=NOT_HASHED)

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.read(name)[name])

    def tensors(self) -> Tensors:
        """All of them, by name."""
        arrays = self.read()
        return {name: torch.from_numpy(arrays[name]) for name in arrays if name != SECONDS}

    @property
    def seconds(self) -> float:
        return float(self.read(SECONDS)[SECONDS])

    def read(self, *names: str) -> dict[str, np.ndarray]:
        """Arrays by name, all where none is named; raises ValueError for a file that holds no
        finished task."""
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in names or arrays.files}
        except (AttributeError, BadZipFile, EOFError, KeyError, ValueError) as error:
            found = f"{self.path} holds no finished task ({error})"
            raise ValueError(f"{found}: delete it, and it is run again") from error


def run_tasks(
    function: Callable[..., Tensors],
    shared,
    tasks: dict[str, tuple],
    engine: Engine = Engine(),  # noqa: B008 (frozen)
    hours: float | None = None,
    progress: str = "",
    scratch: Path = Path("scratch"),
    each: Callable[[str, Result], None] = lambda name, result: None,
) -> dict[str, Result]:
    """``function(shared, *arguments)`` of each named task, in the order of ``tasks``; it returns
    named tensors.

    An argument that is the ``Result`` of another task is read when its task is begun. Finished
    tasks lie in ``scratch``, named by ``abu.study.keys``. ``shared`` is sent to every node once,
    arrays of ``abu.data.rows`` by their paths alone, and only this process writes files. A task
    that raises ends the run with its error, and finished ones stay. After ``hours`` no result is
    waited for any more and the unfinished tasks are missing from the answer. ``each`` is told of a
    task that this run has finished, at once.
    """
    end = time.monotonic() + hours * 3600 if hours is not None else float("inf")
    folder = scratch / key_of(function, shared)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}-{key(*arguments)}.npz" for name, arguments in tasks.items()}
    missing = {name: tasks[name] for name, path in paths.items() if not path.exists()}
    run = (on_ray if engine.name == "ray" else here)(function, shared, missing, engine)
    for name, tensors, seconds in (
        track(run, progress, len(missing)) if missing and hours != 0 else ()
    ):
        arrays = {part: value.cpu().numpy() for part, value in tensors.items()}
        write_atomically(paths[name], partial(save, {**arrays, SECONDS: np.float64(seconds)}))
        each(name, Result(f"{folder.name}/{paths[name].stem}", paths[name]))
        if time.monotonic() > end:
            run.close()
            break
    done = {name: path for name, path in paths.items() if path.exists()}
    return {name: Result(f"{folder.name}/{path.stem}", path) for name, path in done.items()}


def save(arrays: dict[str, np.ndarray], file: Path) -> None:
    np.savez(file, **arrays)


def timed(function: Callable, shared, arguments: tuple) -> tuple[Tensors, float]:
    start = time.perf_counter()
    return function(shared, *arguments), time.perf_counter() - start


def given(arguments: tuple) -> tuple:
    """Arguments with results of other tasks read."""
    return tuple(a.tensors() if isinstance(a, Result) else a for a in arguments)


def here(
    function: Callable, shared, tasks: dict[str, tuple], engine: Engine
) -> Iterator[tuple[str, Tensors, float]]:
    """Run tasks one after the other in this process."""
    for name, arguments in tasks.items():
        yield name, *timed(function, shared, given(arguments))


def check_room(engine: Engine, nodes: list[dict], accelerated: bool) -> None:
    """Raise ValueError where tasks would wait for ever, since none of ``nodes`` (as ``ray.nodes``
    has them) can hold one, or run on another device than was asked for: Ray shows a task only the
    accelerators that it asks for, and a task's device is that of this process (``accelerated``).
    Nodes that an autoscaling cluster could yet start do not count."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    sizes = [(each.get("CPU", 0), each.get("GPU", 0)) for each in alive]
    there = ", ".join(f"{cpus:g} CPUs and {gpus:g} GPUs" for cpus, gpus in sorted(set(sizes)))
    there = f"the {len(sizes)} nodes of the cluster have {there}"
    asked = f"common.task_cpus is {engine.cpus}, common.task_gpus {engine.gpus:g}"
    if not any(cpus >= engine.cpus and gpus >= engine.gpus for cpus, gpus in sizes):
        raise ValueError(f"{asked}: no node can hold a task; {there}")
    on_gpu = engine.device == "auto" or engine.device.startswith("cuda")
    if on_gpu and not engine.gpus and any(gpus for _, gpus in sizes):
        expected = "expected some for each task, e.g. 1 or 0.25, or common.device: cpu"
        raise ValueError(f"{asked}: Ray hides GPUs from such tasks; {there}; {expected}")
    if engine.gpus and not (on_gpu and accelerated):
        found = "and this process has no GPU" if on_gpu else "and tasks would leave GPUs alone"
        expected = "run the stage on a node that has one, or set common.task_gpus: 0"
        raise ValueError(f"{asked}, common.device {engine.device}, {found}: {expected}")


def on_ray(
    function: Callable, shared, tasks: dict[str, tuple], engine: Engine
) -> Iterator[tuple[str, Tensors, float]]:
    """Run tasks on Ray; they come back as they finish."""
    try:
        import ray
    except ImportError as error:
        raise ImportError('engine "ray" needs Ray: pip install -e ".[cluster]"') from error
    if not tasks:
        return
    if not ray.is_initialized():
        local = engine.address is None
        ray.init(engine.address, log_to_driver=False, include_dashboard=False if local else None)
    check_room(engine, ray.nodes(), torch.cuda.is_available())

    def work(shared, arguments):
        torch.set_num_threads(engine.cpus)
        return timed(function, shared, arguments)

    options = {"num_cpus": engine.cpus, "num_gpus": engine.gpus, "max_retries": engine.retries}
    remote, sent = ray.remote(**options)(work), ray.put(shared)
    pending = {remote.remote(sent, given(arguments)): name for name, arguments in tasks.items()}
    try:
        while pending:
            [done], _ = ray.wait(list(pending), num_returns=1)
            yield pending[done], *ray.get(done)
            del pending[done]
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


def summed(parts: Iterable[Tensors], count: int) -> Tensors:
    """Sums of named tensors over parts that come one after the other, over ``count``."""
    total: Tensors = {}
    for tensors in parts:
        total = {name: total.get(name, 0) + value for name, value in tensors.items()}
    return {name: value / count for name, value in total.items()}


def stacked(done: Iterable[Result]) -> Tensors:
    """Named tensors of several results, stacked, [results, *shape] each."""
    parts = [result.tensors() for result in done]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
