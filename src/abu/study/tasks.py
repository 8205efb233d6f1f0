"""Named tasks whose results are kept: run in this process, or on Ray.

A task that was finished before is read, not run, so a list may be killed at any time and gone on with: what is lost is
what was in flight.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from abu.data.files import write_atomically
from abu.data.progress import track
from abu.study.keys import key, key_of

ENGINES = ("process", "ray")


@dataclass(frozen=True)
class Result:
    """What a task returned, read from its file whenever asked for, and the seconds that it took when it ran."""

    name: str  # holds all that went into it (``abu.study.keys``)
    path: Path = field(metadata={"hashed": False})
    seconds: float = field(metadata={"hashed": False})  # differs between equal runs

    @property
    def value(self) -> torch.Tensor:
        return torch.from_numpy(read(self.path, "value"))


def read(path: Path, name: str) -> np.ndarray:
    """Part of a finished task; raises ValueError for a file that holds none."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[name]
    except (AttributeError, BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} holds no finished task ({error}): delete it, and it is run again"
        ) from error


def run_tasks(
    function: Callable[..., torch.Tensor],
    shared,
    tasks: dict[str, tuple],
    engine: str = "process",
    address: str | None = None,
    cpus: int = 1,
    gpus: float = 0.0,
    retries: int = 3,
    hours: float | None = None,
    progress: str = "",
    scratch: Path = Path("scratch"),
) -> dict[str, Result]:
    """``function(shared, *arguments)`` of each named task, in the order of ``tasks``; values are tensors.

    An argument that is the ``Result`` of another task is read when its task is begun. Finished tasks
    lie in ``scratch``, named by ``abu.study.keys``.

    ``engine``: ``process``, one after the other here; ``ray``, as many at once as the cluster at
    ``address`` (None: a local one) has room for, each with ``cpus`` threads and ``gpus`` accelerators
    (a fraction shares one). ``shared`` is sent to every node once, arrays of ``abu.data.rows`` by
    their paths alone, and only this process writes files. A task whose worker dies is run again up to
    ``retries`` times; one that raises ends the run with its error, and finished ones stay. After
    ``hours`` no result is waited for any more and the unfinished tasks are missing from the answer.
    """
    end = time.monotonic() + hours * 3600 if hours is not None else float("inf")
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}; expected one of {ENGINES}")
    folder = scratch / key_of(function, shared)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}-{key(*arguments)}.npz" for name, arguments in tasks.items()}
    missing = {name: tasks[name] for name, path in paths.items() if not path.exists()}
    if engine == "ray":
        run = on_ray(function, shared, missing, address, cpus, gpus, retries)
    else:
        run = here(function, shared, missing)
    waiting = track(run, progress, len(missing)) if missing and hours != 0 else ()
    for name, value, seconds in waiting:
        arrays = {"value": value.cpu().numpy(), "seconds": np.float64(seconds)}
        write_atomically(paths[name], partial(savez, arrays))
        if time.monotonic() > end:
            run.close()
            break
    done = {name: path for name, path in paths.items() if path.exists()}
    return {
        name: Result(f"{folder.name}/{path.stem}", path, float(read(path, "seconds")))
        for name, path in done.items()
    }


def savez(arrays: dict[str, np.ndarray], file: Path) -> None:
    np.savez(file, **arrays)


def timed(function: Callable, shared, arguments: tuple) -> tuple[torch.Tensor, float]:
    start = time.perf_counter()
    return function(shared, *arguments), time.perf_counter() - start


def given(arguments: tuple) -> tuple:
    """Arguments with results of other tasks read."""
    return tuple(a.value if isinstance(a, Result) else a for a in arguments)


def here(
    function: Callable, shared, tasks: dict[str, tuple]
) -> Iterator[tuple[str, torch.Tensor, float]]:
    """Run tasks one after the other in this process."""
    for name, arguments in tasks.items():
        yield name, *timed(function, shared, given(arguments))


def on_ray(
    function: Callable,
    shared,
    tasks: dict[str, tuple],
    address: str | None,
    cpus: int,
    gpus: float,
    retries: int,
) -> Iterator[tuple[str, torch.Tensor, float]]:
    """Run tasks on Ray; they come back as they finish."""
    try:
        import ray
    except ImportError as error:
        raise ImportError('engine "ray" needs Ray: pip install -e ".[cluster]"') from error
    if not tasks:
        return
    if not ray.is_initialized():
        ray.init(address, log_to_driver=False, include_dashboard=False if address is None else None)

    def work(shared, arguments):
        torch.set_num_threads(cpus)
        return timed(function, shared, arguments)

    remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=retries)(work)
    sent = ray.put(shared)
    pending = {remote.remote(sent, given(arguments)): name for name, arguments in tasks.items()}
    try:
        while pending:
            [done], _ = ray.wait(list(pending), num_returns=1)
            yield pending[done], *ray.get(done)
            del pending[done]
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
