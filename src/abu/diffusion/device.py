"""The device of a run."""

import os

import torch


def use_device(device: str, threads: int = 0) -> torch.device:
    """The device of a run, as ``find_device``; ``threads`` limits the CPU (0: all cores)."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    return find_device(device)


def find_device(device: str) -> torch.device:
    """The device called ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` on this machine.

    Raises RuntimeError for a device that is not there, ValueError for ``mps``, which has no
    float64, in which curvature is summed.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if str(device).partition(":")[0] == "mps":
        raise ValueError(f"device {device!r} has no float64; expected auto, cpu or cuda")
    try:
        resolved = torch.zeros((), device=device).device
        if resolved.type == "cuda":
            torch.cuda.set_device(resolved)  # accelerate takes the current one
        return resolved
    except (AssertionError, RuntimeError) as error:
        raise RuntimeError(
            f"device {device!r} is not there: {str(error).splitlines()[0]}"
        ) from error
