"""What to do about a stage that runs out of memory: which of its parameters make it smaller, what
they are, and what the plan predicted."""

import re
import resource
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from abu.study.costs import STAGE, read
from abu.study.folders import read_yaml

SMALLER = ("batch_size", "shard")
PLAN = Path("results/plan/plan.csv")
COLUMNS = ["memory", "accelerator"]
RAN_OUT = re.compile(
    r"OutOfMemory|MemoryError|TerminatedWorker|can't allocate memory|out of memory", re.I
)


class Watch(threading.Thread):
    """Context after which ``peak`` is the most that all processes below this one held together, in
    resident bytes, looked at every half second (on Linux a page that they share counts once, else
    in each), or the most that one of them ever held, if that is more."""

    peak = 0

    def __init__(self):
        super().__init__(daemon=True)
        self.done = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.done.set()
        self.join()
        unit = 1 if sys.platform == "darwin" else 1024
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
        self.peak = max(self.peak, largest)

    def run(self):
        while not self.done.wait(0.5):
            held = 0
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # ended meanwhile
                    info = process.memory_full_info()
                    held += getattr(info, "pss", info.rss)
            self.peak = max(self.peak, held)


def reason(error: Exception) -> str:
    """How memory ended, "" for an error of another kind. A kernel that dies says nothing itself."""
    if isinstance(error, DeadKernelError):
        return "its kernel died, as when the system kills a process for memory"
    if isinstance(error, PapermillExecutionError):
        said = f"{error.ename}: {error.evalue}"
        return f"out of memory ({said.splitlines()[0][:200]})" if RAN_OUT.search(said) else ""
    return ""


def advice(stage: str, system: str, values: dict, peak: int, root: Path) -> str:
    """What to set smaller, and in which section, and what memory was predicted and taken.
    ``values``: the stage's parameters; ``peak``: bytes that it took."""
    study = read_yaml(root / "params.yaml")
    kind = study["systems"].get(system, {}).get("kind")
    changed = study["changes"].get(kind, {}).get(stage) or ()
    section = lambda name: f"changes.{kind}.{stage}" if name in changed else stage
    there = [name for name in SMALLER if name in values]
    set_smaller = [f"{section(name)}.{name} (now {values[name]})" for name in there]
    if values.get("engine") in ("pool", "ray"):
        set_smaller.append("the number of tasks at once, by larger common.task_cpus or task_gpus,")
    smaller = f"make {' or '.join(set_smaller)} smaller"
    if not set_smaller:
        smaller = f"none of {stage}'s parameters is a batch: it needs a machine with more memory"
    plan = read(root / PLAN, STAGE, COLUMNS)
    if (stage, system) not in plan.index:
        predicted = "python -m abu.study.run plan predicts what it takes"
    else:
        memory, card = (float(plan.loc[(stage, system), name]) / 1e9 for name in COLUMNS)
        predicted = f"the plan predicted {memory:.2f} GB, and {card:.2f} GB of an accelerator"
    return f"{smaller}; it had taken {peak / 1e9:.2f} GB at its peak; {predicted}"
