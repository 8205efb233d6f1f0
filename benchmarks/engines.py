"""What a pool of processes saves: ``python benchmarks/engines.py`` (after the study has run).

The same tasks of a cache, of gradient features and of a bank (the first steps of its models), on
each engine in turn, round after round, when its processes are up: seconds, as ratios to one process
of all threads, and the largest difference of a number relative to the largest. Medians over rounds
with their range. Ray where it is installed.
"""

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from abu import ROOT
from abu.baselines.evidence import read
from abu.baselines.features import Features, Sketch, feature_task
from abu.core.attribution import losses_of
from abu.data.readers import Tensors
from abu.diffusion.device import use_device
from abu.diffusion.unet import select_weights
from abu.judge.retrain import retrain
from abu.study.banks import opened, processor
from abu.study.caching import load_cached
from abu.study.engines import Engine
from abu.study.system import load_system
from abu.study.tasks import run_tasks

ROUNDS, TASKS = 3, 8
MODELS, STEPS = 4, 10  # of a bank
FOUND = importlib.util.find_spec("ray") is not None
ENGINES = {"process": Engine(), "pool": Engine("pool")} | ({"ray": Engine("ray")} if FOUND else {})


def lists() -> Iterator[tuple[str, Callable, object, dict[str, tuple]]]:
    """Kinds of work: name, function, what its tasks share, tasks."""
    system = load_system(device="cpu")
    speed = {"precision": "float32", "compile": False, "channels_last": False}
    cached = load_cached(system, 0, 128, torch.device("cpu"), speed).attribution
    shard = len(system.images) // TASKS
    parts = {str(k): (k * shard, (k + 1) * shard) for k in range(TASKS)}
    yield "losses of a cache", losses_of, cached, parts
    weights = select_weights(system.unet, "all")
    sizes = {name: system.unet.get_parameter(name).numel() for name in weights}
    denoiser = replace(cached.denoiser, weights=weights)
    shared = Features(denoiser, Sketch(sizes, 8192, 0), cached.grid.timesteps, 0, 6)
    tasks = {str(k): (read(system.images[2 * k : 2 * k + 2]),) for k in range(TASKS)}
    yield "gradient features", feature_task, shared, tasks
    training = opened()[1].shared
    yield "models of a bank", retrain, training, {str(k): ((), k, STEPS) for k in range(MODELS)}


def apart(left: list[Tensors], right: list[Tensors]) -> float:
    """Largest difference of two lists of results, relative to the largest number."""
    pairs = [(a[name].double(), b[name].double()) for a, b in zip(left, right) for name in a]
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def main() -> None:
    os.chdir(ROOT)
    use_device("cpu")
    rows = []
    for kind, function, shared, tasks in lists():
        seconds, results = {name: [] for name in ENGINES}, {}
        for attempt in range(ROUNDS + 1):  # the first starts the processes
            for name, engine in ENGINES.items():
                with tempfile.TemporaryDirectory() as scratch:
                    begin = time.perf_counter()
                    done = run_tasks(function, shared, tasks, engine, scratch=Path(scratch))
                    if attempt:
                        seconds[name].append(time.perf_counter() - begin)
                    results[name] = [result.tensors() for result in done.values()]
        for name, times in seconds.items():
            ratios = np.array(seconds["process"]) / np.array(times)
            row = {"work": kind, "engine": name, "seconds": np.median(times)}
            row |= {"times as fast": np.median(ratios), "least": ratios.min(), "most": ratios.max()}
            row |= {"apart": apart(results["process"], results[name])}
            rows.append(row | {"cores": os.cpu_count(), "processor": processor()})
    table = pd.DataFrame(rows)
    table.to_csv(ROOT / "benchmarks/engines.csv", index=False, float_format="%.4g")
    print(table.to_string())


if __name__ == "__main__":
    main()
