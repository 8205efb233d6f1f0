"""Progress bars that reach the terminal of ``dvc repro`` and never the executed notebook."""

import os
from collections.abc import Iterable

from tqdm import tqdm


def track(items: Iterable, name: str = "", total: int | None = None) -> Iterable:
    """``items`` under a bar called ``name``, drawn where the runner listens, or else as tqdm would;
    none if unnamed."""
    if not name:
        return items
    if pipe := os.environ.get("ABU_PROGRESS"):
        return tqdm(items, name, total, file=open(pipe, "w"), disable=False, mininterval=2)
    return tqdm(items, name, total)
