"""Latents, token states and Fisher information that authors released, checked and put in order;
nothing but numbers is read."""

import json
from pathlib import Path

import numpy as np

from abu.data.captions import Captioned
from abu.data.readers import Tensors, named, read_array, read_tensors


def encoded(latents: Path, texts: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents [N, F, c, h, w] and token states [N, C, L, D] of N = ``count`` images, memory-mapped,
    from files with [N, c, h, w] or [2 N, c, h, w] (then all mirror images) and [N, C, L, D] or
    [N C, L, D] (an image's captions follow each other).

    Raises ValueError for other shapes or numbers.
    """
    x, states = read_array(latents, "r"), read_array(texts, "r")
    numbers = (
        count
        and len(x) in (count, 2 * count)
        and (len(states) == count or states.ndim == 3 and len(states) % count == 0)
    )
    if x.ndim != 4 or states.ndim not in (3, 4) or not numbers:
        shapes = (
            f"{len(x)} latents, {len(states)} texts, {count} pictures ({latents.name} "
            f"{x.shape}, {texts.name} {states.shape})"
        )
        raise ValueError(f"found {shapes}; expected N or 2 N, N or N x captions, N")
    pictures = x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)
    return pictures, states.reshape(count, -1, *states.shape[-2:])


def in_order(records: list[Captioned], order: list[int | str]) -> list[Captioned]:
    """Records in the order of a list of their ids or file names. Raises ValueError unless it names
    each of them once."""
    by = {key: record for record in records for key in (record.id, record.path.name)}
    if unknown := [key for key in order if key not in by]:
        raise ValueError(f"{len(unknown)} listed images are not in the annotations: {unknown[:3]}")
    ordered = [by[key] for key in order]
    if len({record.id for record in ordered}) != len(order) or len(order) != len(records):
        raise ValueError(
            f"{len(order)} images are listed, {len({r.id for r in ordered})} of them different; "
            f"the annotations have {len(records)}"
        )
    return ordered


def released(
    latents: Path, texts: Path, records: list[Captioned]
) -> tuple[np.ndarray, np.ndarray, list[Captioned]]:
    """As ``encoded``, and the records in the released order: that of a json list of ids or file
    names beside ``latents``, of the same name but for ``.json``, or where there is none that of
    the records.

    Raises ValueError where an image has fewer captions than token states, and as ``encoded`` and
    ``in_order``.
    """
    listing = latents.with_suffix(".json")
    records = in_order(records, json.loads(listing.read_text())) if listing.is_file() else records
    x, states = encoded(latents, texts, len(records))
    if bare := [record.id for record in records if len(record.captions) < states.shape[1]]:
        raise ValueError(
            f"{texts} has {states.shape[1]} captions an image; images {bare[:3]} have fewer in "
            "the annotations"
        )
    return x, states, records


def load_fisher(path: Path, shapes: dict[str, tuple[int, ...]]) -> Tensors:
    """Diagonal Fisher information of the attributed weights, float64: means of squared gradients,
    by name (other weights' may stand beside them) or in the order of ``shapes``.

    Raises ValueError for a negative value, and as ``abu.data.readers.named``.
    """
    fisher = {n: value.double() for n, value in named(path, read_tensors(path), shapes).items()}
    if negative := [name for name, value in fisher.items() if value.min() < 0]:
        expected = "expected means of squared gradients"
        raise ValueError(f"{path}: {negative[0]} has negative values; {expected}")
    return fisher
