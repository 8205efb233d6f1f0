"""Files of numbers, read as numbers and nothing else: what is pickled code is refused, not run."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from abu.data.checks import check_finite


def read_array(path: Path, mmap_mode: str | None = None) -> np.ndarray:
    """One ``.npy`` file. Raises FileNotFoundError, or ValueError for a file that is torn or holds
    anything but numbers."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        return np.load(path, mmap_mode, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise ValueError(f"{path} holds no array that can be read safely: {error}") from error


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict | list:
    """Tensors by name from a safetensors file; tensors by name, or in a list, from one of torch's.

    Raises FileNotFoundError, or ValueError for a file that is neither.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device=str(device))
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} holds no tensors that can be read safely: {str(error).splitlines()[0]}"
        ) from error


Tensors = dict[str, Tensor]
PREFIXES = ("module.", "_orig_mod.", "unet.", "model.")  # of parallel, compiled and nested modules


def bare(path: Path, found: dict | list) -> dict | list:
    """A state dict as a training script left it, without what it is wrapped in (``{"model": ...,
    "step": 3}``; diffusers' averages, ``{"shadow_params": [...]}``) and without prefixes that all
    of its names have.

    Raises ValueError for several state dicts in one file, since any of them could be meant.
    """
    if not isinstance(found, dict):
        return found
    if isinstance(found.get("shadow_params"), list):
        return found["shadow_params"]
    if not any(isinstance(value, Tensor) for value in found.values()):
        states = [name for name, value in found.items() if holds_tensors(value)]
        if len(states) > 1:
            raise ValueError(f"{path} has several state dicts, {states}; expected one")
        return bare(path, found[states[0]]) if states else found
    while found and all(str(name).startswith(PREFIXES) for name in found):
        start = next(iter(found)).partition(".")[0] + "."
        if not all(name.startswith(start) for name in found):
            break
        found = {name.removeprefix(start): value for name, value in found.items()}
    return found


def holds_tensors(part) -> bool:
    """Whether a part of a file is a state dict, or diffusers' averages."""
    if not isinstance(part, dict):
        return False
    return "shadow_params" in part or any(isinstance(value, Tensor) for value in part.values())


def named(path: Path, found: dict | list, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of ``shapes`` among those that a file holds, by name or in that order.

    Raises ValueError for a weight that is missing, another number of unnamed ones, another shape or
    what is no tensor, FloatingPointError for values that are not finite.
    """
    if not isinstance(found, dict):
        if not isinstance(found, Iterable) or len(found) != len(shapes):
            contents = len(found) if isinstance(found, Iterable) else type(found).__name__
            raise ValueError(f"{path} holds {contents}; expected {len(shapes)} tensors")
        found = dict(zip(shapes, found))
    if lacking := [name for name in shapes if name not in found]:
        raise ValueError(
            f"{path} lacks {len(lacking)} of {len(shapes)} weights: {lacking[:3]}; it has "
            f"{list(found)[:3]}"
        )
    for name, shape in shapes.items():
        actual = (
            tuple(found[name].shape)
            if isinstance(found[name], Tensor)
            else type(found[name]).__name__
        )
        if actual != tuple(shape):
            raise ValueError(f"{path}: {name} has the shape {actual}; expected {tuple(shape)}")
        check_finite(f"{path}: {name}", found[name])
    return {name: found[name] for name in shapes}
