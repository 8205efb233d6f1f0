"""What to do about a stage that runs out of memory: which of its parameters make it smaller, what
they are, and what the plan predicted."""

import re
from pathlib import Path

from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from abu.study.costs import STAGE, read

SMALLER = ("batch_size", "shard")
PLAN = Path("results/plan/plan.csv")
COLUMNS = ["memory", "accelerator"]
RAN_OUT = re.compile(r"OutOfMemory|MemoryError|can't allocate memory|out of memory", re.I)


def reason(error: Exception) -> str:
    """How memory ended, "" for an error of another kind. A kernel that dies says nothing itself."""
    if isinstance(error, DeadKernelError):
        return "its kernel died, as when the system kills a process for memory"
    if isinstance(error, PapermillExecutionError):
        said = f"{error.ename}: {error.evalue}"
        return f"out of memory ({said.splitlines()[0][:200]})" if RAN_OUT.search(said) else ""
    return ""


def advice(stage: str, system: str, values: dict, changed: dict, peak: int, root: Path) -> str:
    """What to set smaller, and what memory was predicted and taken.

    ``values``: the stage's parameters; ``changed``: those of them that ``changes`` gives, with the
    section they stand in; ``peak``: bytes that its kernel took.
    """
    names = {name: f"{changed.get(name, stage)}.{name}" for name in SMALLER if name in values}
    set_smaller = [f"{name} (now {values[key]})" for key, name in names.items()]
    if values.get("engine") == "ray":
        set_smaller.append("the number of tasks at once, by larger common.task_cpus or task_gpus")
    smaller = (
        f"make {' or '.join(set_smaller)} smaller"
        if set_smaller
        else (f"none of {stage}'s parameters is a batch: it needs a machine with more memory")
    )
    plan = read(root / PLAN, STAGE, COLUMNS)
    if (stage, system) not in plan.index:
        predicted = "python -m abu.study.run plan predicts what it takes"
    else:
        memory, card = (float(plan.loc[(stage, system), name]) / 1e9 for name in COLUMNS)
        predicted = f"the plan predicted {memory:.2f} GB, and {card:.2f} GB of an accelerator"
    return f"{smaller}; it had taken {peak / 1e9:.2f} GB at its peak; {predicted}"
