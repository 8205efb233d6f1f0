"""How a notebook begins: in the study's folder, on the device and engine that it was given."""

import os
from collections.abc import Callable
from functools import partial

import torch

import abu
from abu.diffusion.device import use_device
from abu.study.engines import Engine
from abu.study.tasks import run_tasks


def begin(device: str, threads: int) -> torch.device:
    """Go to the study's folder, where every path starts; the device, as ``use_device`` has it."""
    os.chdir(abu.ROOT)
    return use_device(device, threads)


def begin_tasks(device: str, threads: int, *where) -> tuple[torch.device, Engine, Callable]:
    """``begin``, and where tasks run: the engine of a name, address, CPUs and GPUs (``where``), and
    ``run_tasks`` on it."""
    engine = Engine(*where, device)
    return begin(device, threads), engine, partial(run_tasks, engine=engine)
