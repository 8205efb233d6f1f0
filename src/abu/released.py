"""Files that authors released of a model trained elsewhere: weights, Fisher information, latents, token states. They are checked and
converted once; what comes of them is what the stages would have made. Nothing but numbers is taken of a file (no pickled code)."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from abu.data import Captioned
from abu.losses import check_finite
from abu.readers import read_array, read_tensors


def named(path: Path, found: dict | list, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of ``shapes`` among those that a file holds, by name or in that order.

    Raises ValueError for a weight that is missing, another number of unnamed ones, another shape or what is no tensor,
    FloatingPointError for values that are not finite.
    """
    if not isinstance(found, dict):
        if not isinstance(found, Iterable) or len(found) != len(shapes):
            raise ValueError(f"{path} holds {len(found) if isinstance(found, Iterable) else type(found).__name__}; expected {len(shapes)} tensors")
        found = dict(zip(shapes, found))
    if lacking := [name for name in shapes if name not in found]:
        raise ValueError(f"{path} lacks {len(lacking)} of {len(shapes)} weights: {lacking[:3]}; it has {list(found)[:3]}")
    for name, shape in shapes.items():
        own = tuple(found[name].shape) if isinstance(found[name], Tensor) else type(found[name]).__name__
        if own != tuple(shape):
            raise ValueError(f"{path}: {name} has the shape {own}; expected {tuple(shape)}")
        check_finite(f"{path}: {name}", found[name])
    return {name: found[name] for name in shapes}


def load_weights(path: Path, config: dict, device: torch.device | str = "cpu") -> UNet2DConditionModel:
    """Frozen U-Net of a diffusers ``config`` with the weights of a state dict (``.bin``, ``.pt`` or ``.safetensors``), float32.

    Raises ValueError unless the names and shapes are those of the config.
    """
    with torch.device("meta"):  # no initial weights are drawn
        unet = UNet2DConditionModel(**config)
    own, found = {name: tuple(value.shape) for name, value in unet.state_dict().items()}, read_tensors(path)
    if isinstance(found, dict) and (unknown := [name for name in found if name not in own]):
        raise ValueError(f"{path} has {len(unknown)} entries that the U-Net of train.unet lacks: {unknown[:3]}")
    weights = {name: value.to(torch.float32, copy=True) for name, value in named(path, found, own).items()}  # a mapped file is unaligned
    unet.load_state_dict(weights, assign=True)
    return unet.to(device).requires_grad_(False).eval()


def load_fisher(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Diagonal Fisher information of the attributed weights, float64: means of squared gradients, by name (other weights' may stand
    beside them) or in the order of ``shapes``. Raises ValueError for a negative value, and as ``named``."""
    found = {name: value.double() for name, value in named(path, read_tensors(path), shapes).items()}
    if negative := [name for name, value in found.items() if value.min() < 0]:
        raise ValueError(f"{path}: {negative[0]} has negative values; expected means of squared gradients")
    return found


def encoded(latents: Path, texts: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents [N, F, c, h, w] and token states [N, C, L, D] of N = ``count`` images, memory-mapped, from files with [N, c, h, w] or
    [2 N, c, h, w] (then all mirror images) and [N, C, L, D] or [N C, L, D] (an image's captions follow each other).

    Raises ValueError for other shapes or numbers.
    """
    x, states = read_array(latents, "r"), read_array(texts, "r")
    numbers = count and len(x) in (count, 2 * count) and (len(states) == count or states.ndim == 3 and len(states) % count == 0)
    if x.ndim != 4 or states.ndim not in (3, 4) or not numbers:
        shapes = f"{len(x)} latents, {len(states)} texts, {count} pictures ({latents.name} {x.shape}, {texts.name} {states.shape})"
        raise ValueError(f"found {shapes}; expected N or 2 N, N or N x captions, N")
    return x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), states.reshape(count, -1, *states.shape[-2:])


def in_order(records: list[Captioned], order: list[int | str]) -> list[Captioned]:
    """Records in the order of a list of their ids or file names. Raises ValueError unless it names each of them once."""
    by = {key: record for record in records for key in (record.id, record.path.name)}
    if unknown := [key for key in order if key not in by]:
        raise ValueError(f"{len(unknown)} listed images are not in the annotations: {unknown[:3]}")
    found = [by[key] for key in order]
    if len({record.id for record in found}) != len(order) or len(order) != len(records):
        raise ValueError(f"{len(order)} images are listed, {len({r.id for r in found})} of them different; the annotations have {len(records)}")
    return found


def released(latents: Path, texts: Path, records: list[Captioned]) -> tuple[np.ndarray, np.ndarray, list[Captioned]]:
    """As ``encoded``, and the records in the released order: that of a json list of ids or file names beside ``latents``, of the
    same name but for ``.json``, or where there is none that of the records.

    Raises ValueError where an image has fewer captions than token states, and as ``encoded`` and ``in_order``.
    """
    listing = latents.with_suffix(".json")
    records = in_order(records, json.loads(listing.read_text())) if listing.is_file() else records
    x, states = encoded(latents, texts, len(records))
    if bare := [record.id for record in records if len(record.captions) < states.shape[1]]:
        raise ValueError(f"{texts} has {states.shape[1]} captions an image; images {bare[:3]} have fewer in the annotations")
    return x, states, records
