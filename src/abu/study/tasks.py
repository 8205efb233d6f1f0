"""Named tasks whose results are kept.

A task that was finished before is read, not run, so a list may be killed at any time and gone on
with: what is lost is what was in flight.
"""

import time
from collections.abc import Callable, Iterable
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
from abu.study.engines import Engine, here, on_pool, on_ray
from abu.study.keys import key, key_of

SECONDS = "seconds"  # beside the tensors of a finished task
NOT_HASHED = {"hashed": False}


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
            said = f"{self.path} holds no finished task ({error})"
            raise ValueError(f"{said}: delete it, and it is run again") from error


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
    missing = {n: partial(given, tasks[n]) for n, path in paths.items() if not path.exists()}
    engines = {"process": here, "pool": on_pool, "ray": on_ray}
    run = engines[engine.name](function, shared, missing, engine)
    finished = track(run, progress, len(missing)) if missing and hours != 0 else ()
    for name, tensors, seconds in finished:
        arrays = {label: value.cpu().numpy() for label, value in tensors.items()}
        arrays[SECONDS] = np.float64(seconds)
        write_atomically(paths[name], partial(np.savez, **arrays))
        each(name, Result(f"{folder.name}/{paths[name].stem}", paths[name]))
        if time.monotonic() > end:
            run.close()
            break
    done = {name: path for name, path in paths.items() if path.exists()}
    return {name: Result(f"{folder.name}/{path.stem}", path) for name, path in done.items()}


def given(arguments: tuple) -> tuple:
    """Arguments with results of other tasks read."""
    return tuple(a.tensors() if isinstance(a, Result) else a for a in arguments)


def summed(parts: Iterable[Tensors], count: int) -> Tensors:
    """Sums of named tensors over parts that come one after the other, over ``count``."""
    total: Tensors = {}
    for tensors in parts:
        total = {name: total.get(name, 0) + value for name, value in tensors.items()}
    return {name: value / count for name, value in total.items()}


def stacked(done: Iterable[Result]) -> Tensors:
    """Named tensors of several results, stacked, [results, *shape] each."""
    parts = [result.tensors() for result in done]
    return {name: torch.stack([tensors[name] for tensors in parts]) for name in parts[0]}
