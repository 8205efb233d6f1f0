"""Named randomness: every draw has a key, so it is the same in any batch, order, subset, shard and
on any device.

A key is a tuple of integers and strings, e.g. ``(seed, "loss", image_id, caption, timestep)``. It
seeds numpy's Philox counter generator through a hash, on the CPU; about 30 microseconds a draw, far
below a denoiser's cost.
"""

import hashlib

import numpy as np
import torch


def stream(*key: int | str) -> np.random.Generator:
    """Random generator of one name; distinct names give independent streams."""
    digest = hashlib.blake2b(
        repr(tuple(k if isinstance(k, str) else int(k) for k in key)).encode(), digest_size=16
    )
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))


def normal(shape: tuple[int, ...], *key: int | str) -> torch.Tensor:
    """Standard normal draw of one name, float32 [*shape], on the CPU."""
    return torch.from_numpy(stream(*key).standard_normal(shape, dtype=np.float32))


def normals(shape: tuple[int, ...], keys: list[tuple]) -> torch.Tensor:
    """One draw for each key, float32 [len(keys), *shape]."""
    return torch.stack([normal(shape, *key) for key in keys])


def permutation(n: int, *key: int | str) -> np.ndarray:
    """Permutation of ``range(n)`` of one name."""
    return stream(*key).permutation(n)
