"""How far a list of tasks scales: ``python benchmarks/scale.py`` (after the study has run).

A simulation, on seconds that tasks took here, of what an engine does with a list: each of W workers
starts, receives what tasks share over the head's one link, takes the next task when it is free, and
sends its result back over that link; a worker that dies loses its task, which is run again. Lists
are those of the study, and of the paper's size. ``copies``: who finds no task left begins one again
that is still running, the first begun first, and the first result counts, in a time drawn anew:
what the engines here do not do. Writes ``benchmarks/scale.csv`` and ``docs/scale.png``: the time of
one worker over that of W, median and range of draws of the order, the times and the deaths.
"""

import heapq
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from abu import ROOT
from abu.diffusion.noise import stream
from abu.judge.bank import read_bank
from abu.report.lines import curves
from abu.report.style import save
from abu.study.costs import COLUMNS, PATH, read

WORKERS = (1, 8, 64, 512)
DRAWN = tuple(2**k for k in range(10))
START = 8.0  # seconds until a worker has imported what it runs: measured here
LINK = 125e6  # bytes a second of the head's: 1 Gbit/s, assumed
DEATHS = 1 / (24 * 3600)  # of a worker, a second: one a day, assumed
DRAWS = 20
PAPER, SHARD = 118_287, 128  # its images, and those of a task


@dataclass(frozen=True)
class Work:
    """A list of ``count`` tasks that take one of ``seconds``, and bytes that each worker receives
    (``shared``) and each task sends back (``result``)."""

    count: int
    seconds: np.ndarray
    shared: float
    result: float


def makespan(work: Work, workers: int, copies: bool, draw: np.random.Generator) -> float:
    """Seconds until the last result has arrived."""
    free = [START + (w + 1) * work.shared / LINK for w in range(workers)]

    def run(seconds: float) -> float:
        """When a task is done that the next free worker takes; whoever dies, begins it again."""
        now, dies = heapq.heappop(free), draw.exponential(1 / DEATHS)
        while dies < seconds:
            now, dies = now + dies + START, draw.exponential(1 / DEATHS)
        heapq.heappush(free, now + seconds)
        return now + seconds

    done = [run(seconds) for seconds in draw.choice(work.seconds, work.count)]
    for task in range(work.count) if copies else ():
        if done[task] > free[0]:  # it still runs when the next worker is free
            done[task] = min(done[task], run(draw.choice(work.seconds)))
    arrived = 0.0
    for each in sorted(done):
        arrived = max(arrived, each) + work.result / LINK
    return arrived


def works() -> dict[str, Work]:
    """Lists of the study by name, and one of the paper's number of images, as long for each as
    AbU's finite step takes here."""
    bank = read_bank(Path("data/bank"))
    files = list(Path("data/bank/models").glob("*.npz"))
    result = np.mean([file.stat().st_size for file in files])
    abu = np.array([float(read(PATH, ["method"], COLUMNS).seconds_per_query["abu"])])
    weights = Path("results/train/unet/diffusion_pytorch_model.safetensors").stat().st_size
    losses = np.load("results/cache/base/losses.npy", mmap_mode="r")
    queries, images = len(pd.read_csv("results/unlearn/base/queries.csv")), len(losses)
    shards = -(-PAPER // SHARD)
    share = SHARD / images
    return {
        f"{len(bank.models)} models of the bank": Work(
            len(bank.models), bank.models.seconds.to_numpy(), weights, result
        ),
        f"{queries} queries of AbU": Work(queries, abu, weights, losses.nbytes),
        f"a query on {PAPER:,} images, {shards} shards": Work(
            shards, abu * share, 2 * weights, losses.nbytes * share
        ),
    }


def main() -> None:
    os.chdir(ROOT)
    rows = []
    for name, work in works().items():
        alone = work.count * work.seconds.mean() + START
        for label, copies in ((name, False), (f"{name}, with copies", True)):
            if copies and work.seconds.std() == 0:
                continue  # none is slow
            for workers in DRAWN:
                draws = (stream("scale", name, workers, b) for b in range(DRAWS))
                times = [alone / makespan(work, workers, copies, draw) for draw in draws]
                row = {"work": label, "workers": workers, "times as fast": np.median(times)}
                rows.append(row | {"least": min(times), "most": max(times)})
    table = pd.DataFrame(rows)
    kept = table[table.workers.isin(WORKERS)]
    kept.to_csv("benchmarks/scale.csv", index=False, float_format="%.4g")
    by_work = table.groupby("work", sort=False)["times as fast"]
    lines = {label: values.to_numpy() for label, values in by_work}
    label = "times as fast as one"
    figure = curves(np.array(DRAWN), lines, "workers", label, log=True, x_log=True)
    save(figure, Path("docs/scale.png"))
    print(kept.to_string())


if __name__ == "__main__":
    main()
