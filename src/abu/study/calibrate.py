"""What one unit of each pass of ``abu.study.plan`` costs on the machine at hand: FLOPs, seconds, memory of a batch."""

import time

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from abu.study.footprint import peak, room
from abu.study.passes import RUNS, Bench
from abu.study.plan import Pass, Rate


def calibrate(bench: Bench, asked: Pass, seconds: float) -> Rate:
    """What a unit of a pass costs. Units at once double up to the pass's batch, while ``seconds`` and the memory allow it. FLOPs are
    those of matrix products and convolutions, those of attention included."""
    run = RUNS[asked.kind](bench, asked.batch, *asked.options)
    with torch.compiler.set_stance("force_eager"):
        with (
            FlopCounterMode(display=False) as counter,
            sdpa_kernel(SDPBackend.MATH),
        ):  # the counter does not know the CPU's own attention
            units, _ = run(1)
        more = min(asked.batch, max(2 * round(units), 8))
        fewer = max(1, more // 2)
        low, high = (peak(run, n, bench.device) for n in (fewer, more))
    each = max(0.0, (high - low) / max(more - fewer, 1))
    fixed, begin, found, n = low - each * fewer, time.perf_counter(), [], round(units)
    while True:
        start = time.perf_counter()
        done, spent = run(n)
        found.append((n, spent / done))
        end = time.perf_counter()
        growing = n < asked.batch and fixed + 2 * n * each < room(bench.device)
        if end - begin + (end - start) * (2 if growing else 1) > seconds:
            break
        n = min(2 * n, asked.batch) if growing else n
    flops = 1e9 if asked.kind == "solve" else counter.get_total_flops() / units
    return Rate(flops, seconds_at(asked.batch, found), fixed, each)


def seconds_at(batch: int, found: list[tuple[int, float]]) -> float:
    """Seconds of a unit where ``batch`` go at once, from pairs (units at once, seconds of one): the median at the largest number, or,
    where that is no full batch, the straight line through the seconds of whole batches."""
    last = max(n for n, _ in found)
    median = float(np.median([seconds for n, seconds in found if n == last]))
    if last >= batch or last == min(n for n, _ in found):
        return median
    slope, start = np.polyfit([n for n, _ in found], [n * seconds for n, seconds in found], 1)
    return min(median, float(slope + start / batch)) if slope > 0 < start else median
