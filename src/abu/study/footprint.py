"""What a process takes of the machine: memory of tensors and of the process, seconds to start."""

import os
import resource
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Alive(TorchDispatchMode):
    """Context that counts bytes of tensors made within: ``now`` alive, ``peak`` alive at once."""

    def __enter__(self):
        self.now = self.peak = 0
        self.known: set[int] = set()
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.meet((args, kwargs), 0)  # those made outside count nothing
        found = function(*args, **(kwargs or {}))
        self.meet(found, 1)
        return found

    def meet(self, tree, weight: int) -> None:
        for tensor in tree_leaves(tree):
            if (
                isinstance(tensor, Tensor)
                and (storage := tensor.untyped_storage())._cdata not in self.known
            ):
                self.known.add(storage._cdata)
                self.now += weight * storage.nbytes()
                weakref.finalize(storage, self.part, storage._cdata, weight * storage.nbytes())
        self.peak = max(self.peak, self.now)

    def part(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def peak(run: Callable[[int], object], units: int, device: torch.device) -> int:
    """Bytes of tensors that are alive at once: on CUDA as its allocator counts them, on the CPU without what its libraries take."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run(units)
        return torch.cuda.max_memory_allocated(device) - before
    with Alive() as alive:
        run(units)
    return alive.peak


def room(device: torch.device) -> int:
    """Bytes of memory of the CPU's machine, or those that are free on an accelerator."""
    return (
        torch.cuda.mem_get_info(device)[0]
        if device.type == "cuda"
        else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )


def start_up() -> tuple[float, int]:
    """Seconds that a fresh process takes to import what a stage imports and to draw its first figure, and its resident bytes then."""
    script = """
import ipykernel.kernelapp, numpy, abu.baselines.evidence, abu.study.system
from abu.study.footprint import resident
from abu.report.figures import gallery
gallery(numpy.zeros((1, 3, 8, 8))).canvas.draw()
print(resident())
"""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return time.perf_counter() - begin, int(done.stdout)


def resident() -> int:
    """Resident bytes of this process; where the system has no /proc, their peak."""
    if (path := Path("/proc/self/statm")).exists():
        return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
