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
import json
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
    waiting, left = list(draw.choice(work.seconds, work.count)), work.count
    running: dict[int, float] = {}  # task: when it is done
    again, arrived, number = [], 0.0, 0
    heapq.heapify(free)
    while waiting or (copies and len(free) and again):
        now = heapq.heappop(free)
        again = [task for task in again if running[task] > now]
        if waiting:
            task, taken, number = number, waiting.pop(), number + 1
            again.append(task)
        elif again:
            task, taken = again.pop(0), draw.choice(work.seconds)
        else:
            break
        dies = draw.exponential(1 / DEATHS)
        while dies < taken:  # and is run again by a worker in its place
            now, dies = now + dies + START, draw.exponential(1 / DEATHS)
        running[task] = min(running.get(task, np.inf), now + taken)
        heapq.heappush(free, now + taken)
    for done in sorted(running.values()):
        arrived = max(arrived, done) + work.result / LINK
    assert len(running) == left
    return arrived


def works() -> dict[str, Work]:
    """Lists of the study, and of the paper's images and a thousand queries, by name."""
    bank = read_bank(Path("data/bank"))
    files = list(Path("data/bank/models").glob("*.npz"))
    result = np.mean([file.stat().st_size for file in files])
    costs = read(PATH, ["method"], COLUMNS)
    abu = np.array([float(costs.seconds_per_query["abu"])])
    weights = Path("results/train/unet/diffusion_pytorch_model.safetensors").stat().st_size
    losses = np.load("results/cache/base/losses.npy", mmap_mode="r")
    images = len(json.loads(Path("results/train/train.json").read_text())["train_ids"])
    shards = 118_287 // 128 + 1
    return {
        f"{len(bank.models)} models of the bank": Work(
            len(bank.models), bank.models.seconds.to_numpy(), weights, result
        ),
        "66 queries of AbU": Work(66, abu, weights, losses.nbytes),
        f"a query's losses of 118,287 images, {shards} shards": Work(
            shards, abu * 128 / images, 2 * weights, losses.nbytes * 128 / images
        ),
    }


def main() -> None:
    os.chdir(ROOT)
    rows, lines = [], {}
    for name, work in works().items():
        for copies in (False, True)[: 1 + (len(set(work.seconds)) > 1)]:
            label = f"{name}{', with copies' * copies}"
            for workers in DRAWN:
                draws = [stream("scale", name, workers, b) for b in range(DRAWS)]
                alone = [work.count * work.seconds.mean() + START for _ in draws]
                ratios = [
                    a / makespan(work, workers, copies, draw) for a, draw in zip(alone, draws)
                ]
                lines.setdefault(label, []).append(np.median(ratios))
                row = {"work": label, "workers": workers, "times as fast": np.median(ratios)}
                rows.append(row | {"least": min(ratios), "most": max(ratios)})
    table = pd.DataFrame(rows)
    kept = table[table.workers.isin(WORKERS)]
    kept.to_csv("benchmarks/scale.csv", index=False, float_format="%.4g")
    figure = curves(np.array(DRAWN), lines, "workers", "times as fast as one", log=True, x_log=True)
    save(figure, Path("docs/scale.png"))
    print(kept.to_string())


if __name__ == "__main__":
    main()
