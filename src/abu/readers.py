"""Files of numbers, read as numbers and nothing else: what is pickled code is refused, not run."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file


def read_array(path: Path, mmap_mode: str | None = None) -> np.ndarray:
    """One ``.npy`` file. Raises FileNotFoundError, or ValueError for a file that is torn or holds anything but numbers."""
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
        raise ValueError(f"{path} holds no tensors that can be read safely: {str(error).splitlines()[0]}") from error
