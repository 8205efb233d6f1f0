"""Where tasks run: in this process, in a pool of processes, or on Ray.

Each engine takes what tasks share and their arguments, and gives back name, named tensors and
seconds of one task after the other, as they finish.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cloudpickle
import torch
from joblib import Parallel, delayed

from abu.data.readers import Tensors
from abu.diffusion.device import find_device

ENGINES = ("process", "pool", "ray")
IDLE = 10
"""Seconds after which a process of a pool that has no task ends, and frees its memory."""
Done = Iterator[tuple[str, Tensors, float]]


@dataclass(frozen=True)
class Engine:
    """Where tasks run: ``process``, one after the other here; ``pool``, in as many processes of
    this machine as the study's threads allow, each with ``cpus`` of them (where tasks compute on
    an accelerator, here); ``ray``, as many at once as the cluster at ``address`` (None: a local
    one) has room for, each with ``cpus`` threads and ``gpus`` accelerators (a fraction shares
    one). ``device``: that which the study asks for, ``auto`` or cuda where a task has
    accelerators. Raises ValueError for another name."""

    name: str = "process"
    address: str | None = None
    cpus: int = 1
    gpus: float = 0.0
    device: str = "cpu"

    def __post_init__(self):
        if self.name not in ENGINES:
            raise ValueError(f"engine is {self.name!r}; expected one of {ENGINES}")


def timed(name: str, function: Callable, shared, arguments: tuple) -> tuple[Tensors, float]:
    """What a task returns, and its seconds; an error says in which task it was raised."""
    start = time.perf_counter()
    try:
        return function(shared, *arguments), time.perf_counter() - start
    except Exception as error:
        error.add_note(f"in task {name!r}")
        raise


def here(function: Callable, shared, tasks: dict[str, Callable], engine: Engine) -> Done:
    """Run tasks one after the other in this process."""
    for name, arguments in tasks.items():
        yield name, *timed(name, function, shared, arguments())


def on_pool(function: Callable, shared, tasks: dict[str, Callable], engine: Engine) -> Done:
    """Run tasks in processes of this machine; small networks gain more from two of one thread than
    from one of two. Where there is room for one process alone, or a single task, run them here."""
    count = min(torch.get_num_threads() // engine.cpus, len(tasks))
    if count < 2 or find_device(engine.device).type != "cpu":
        yield from here(function, shared, tasks, engine)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder, "shared.pickle")
        path.write_bytes(cloudpickle.dumps((function, shared)))
        run = delayed(partial(pooled, path, engine.cpus))
        pool = Parallel(count, return_as="generator_unordered", idle_worker_timeout=IDLE)
        yield from pool(run(name, arguments) for name, arguments in tasks.items())


def pooled(path: Path, cpus: int, name: str, arguments: Callable) -> tuple[str, Tensors, float]:
    """A task in a process of a pool."""
    torch.set_num_threads(cpus)
    return name, *timed(name, *unpickled(path), arguments())


@lru_cache(1)
def unpickled(path: Path) -> tuple:
    """What all tasks of a list share, read once a process; that of the list before is let go."""
    return cloudpickle.loads(path.read_bytes())


def check_room(engine: Engine, nodes: list[dict], accelerated: bool) -> None:
    """Raise ValueError where tasks would wait for ever, since none of ``nodes`` (as ``ray.nodes``
    has them) can hold one, or run on another device than was asked for: Ray shows a task only the
    accelerators that it asks for, and a task's device is that of this process (``accelerated``).
    Nodes that an autoscaling cluster could yet start do not count."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    sizes = [(each.get("CPU", 0), each.get("GPU", 0)) for each in alive]
    there = ", ".join(f"{cpus:g} CPUs and {gpus:g} GPUs" for cpus, gpus in sorted(set(sizes)))
    there = f"the {len(sizes)} nodes of the cluster have {there}"
    said = f"common.task_cpus is {engine.cpus}, common.task_gpus {engine.gpus:g}"
    if not any(cpus >= engine.cpus and gpus >= engine.gpus for cpus, gpus in sizes):
        raise ValueError(f"{said}: no node can hold a task; {there}")
    on_gpu = engine.device == "auto" or engine.device.startswith("cuda")
    if on_gpu and not engine.gpus and any(gpus for _, gpus in sizes):
        expected = "expected some for each task, e.g. 1 or 0.25, or common.device: cpu"
        raise ValueError(f"{said}: Ray hides GPUs from such tasks; {there}; {expected}")
    if engine.gpus and not (on_gpu and accelerated):
        why = "and this process has no GPU" if on_gpu else "and tasks would leave GPUs alone"
        expected = "run the stage on a node that has one, or set common.task_gpus: 0"
        raise ValueError(f"{said}, common.device {engine.device}, {why}: {expected}")


def on_ray(function: Callable, shared, tasks: dict[str, Callable], engine: Engine) -> Done:
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

    def work(name, shared, arguments):
        torch.set_num_threads(engine.cpus)
        return timed(name, function, shared, arguments)

    # a task whose worker dies is tried again
    options = {"num_cpus": engine.cpus, "num_gpus": engine.gpus, "max_retries": 3}
    remote, sent = ray.remote(**options)(work), ray.put(shared)
    pending = {remote.remote(name, sent, arguments()): name for name, arguments in tasks.items()}
    try:
        while pending:
            [done], _ = ray.wait(list(pending), num_returns=1)
            yield pending[done], *ray.get(done)
            del pending[done]
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
