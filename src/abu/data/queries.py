"""Queries: pictures that a model draws from prompts, and the images that are known to be right for
them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from abu.data.images import Images
from abu.data.readers import read_array
from abu.data.tables import cell, read_table


@dataclass(frozen=True)
class Queries:
    """Pictures that are asked about: ``latents`` [Q, c, h, w], ``texts`` [Q, L, D], and, where a
    part of a picture is meant, ``regions``: weights [h, w] or None of each. ``names`` name their
    noise."""

    names: Sequence[str]
    latents: Tensor
    texts: Tensor
    regions: Sequence[Tensor | None] = ()

    def __len__(self) -> int:
        return len(self.names)

    def images(self) -> Images:
        """The queries as images whose losses are taken, with ids of their own."""
        ids = [f"query {name}" for name in self.names]
        return Images(ids, self.latents[:, None], self.texts[:, None])


NO_QUERIES = Queries((), torch.empty(0), torch.empty(0))


Prompts = dict[str, list[str] | dict[str, dict]]


def name_queries(prompts: Prompts, tuning: Prompts | None = None) -> pd.DataFrame:
    """Table of queries (query, name, kind, tuning, prompt, where) from prompts by kind: those that
    are reported, then those for ``tuning``.

    A kind has a list of prompts, or a mapping from each prompt to what images are known to be right
    for it, as ``keep`` in ``load_captions``; of a listed prompt, those whose first caption it is.
    Noise goes by ``name``: the prompt, counted where it comes again, so that adding a query changes
    no other. Raises ValueError for no prompt, or prompts of another form.
    """
    rows, uses = [], Counter()
    for by_kind, tunes in ((prompts, False), (tuning or {}, True)):
        check_prompts(by_kind)
        for kind, entries in by_kind.items():
            for prompt in entries:
                where = entries[prompt] if isinstance(entries, dict) else {"caption": prompt}
                uses[prompt] += 1
                name = (prompt or "no caption") + (f" ({uses[prompt]})" if uses[prompt] > 1 else "")
                row = {"query": len(rows), "name": name, "kind": kind, "tuning": tunes}
                rows.append(row | {"prompt": prompt, "where": json.dumps(where)})
    if all(row["tuning"] for row in rows):
        raise ValueError("no query: the list of prompts is empty")
    return pd.DataFrame(rows)


def check_prompts(prompts) -> None:
    """Raise ValueError unless each kind has a list of texts, or texts with what is right."""
    entries = prompts.values() if isinstance(prompts, dict) else [None]
    if not all(
        isinstance(e, list | dict) and all(isinstance(prompt, str) for prompt in e) for e in entries
    ):
        raise ValueError(
            f"prompts are {prompts!r}; expected a list of texts for each kind, e.g. {{'plain': "
            "['skull']}}"
        )


def with_captions(asked: Sequence[dict], captions: Sequence[str]) -> list[dict]:
    """Prompts by kind, several such, in which a number stands for so many captions of the data,
    spread over its different ones that no list asks for. Raises ValueError for more than there
    are."""
    lists = [e for prompts in asked for e in prompts.values() if isinstance(e, list | dict)]
    listed = {prompt for entries in lists for prompt in entries}
    counts = [{kind: n for kind, n in prompts.items() if type(n) is int} for prompts in asked]
    total = sum(sum(by_kind.values()) for by_kind in counts)
    different = [text for text in dict.fromkeys(captions) if text and text not in listed]
    if total > len(different):
        raise ValueError(
            f"prompts ask for {' and '.join(map(str, filter(None, counts)))} captions; the images "
            f"have {len(different)} different ones that are not listed (the first of each)"
        )
    spread = iter([different[i * len(different) // total] for i in range(total)])
    texts = [{kind: [next(spread) for _ in range(n)] for kind, n in c.items()} for c in counts]
    return [prompts | more for prompts, more in zip(asked, texts)]


def read_queries(path: Path) -> pd.DataFrame:
    """Table of queries from a csv file; names and prompts come letter by letter."""
    return read_table(path, ("name", "kind", "prompt", "where"))


def as_recorded(
    folder: Path, queries: pd.DataFrame, latents: Tensor, tolerance: float = 0.01
) -> tuple[Tensor, np.ndarray, float]:
    """Latents [Q, c, h, w] in which those that a bank was asked about (``queries.csv`` and
    ``latents.npy`` of ``folder``) are as recorded; which they are, bool [Q]; and how far the drawn
    ones were from them: the largest root mean square difference, over that of the recorded.

    Raises ValueError where it exceeds ``tolerance``: another model, or another sampler, drew
    them.
    """
    recorded, table = read_array(folder / "latents.npy"), read_queries(folder / "queries.csv")
    place = {name: row for row, name in enumerate(table.name)}
    merged, in_bank, worst = latents.clone(), queries.name.isin(place).to_numpy(), 0.0
    for row in np.flatnonzero(in_bank):
        stored = torch.from_numpy(recorded[place[queries.name[row]]])
        off = ((latents[row] - stored).norm() / stored.norm()).item()
        if not off <= tolerance:
            raise ValueError(
                f"{folder / 'latents.npy'}: the picture of {queries.name[row]!r}, drawn again, is "
                f"{off:.1e} off; {tolerance} is allowed. It was drawn by another model or sampler: "
                "set generate.source: null to ask about the pictures drawn here"
            )
        merged[row], worst = stored, max(worst, off)
    return merged, in_bank, worst


def right_images(queries: pd.DataFrame, images: pd.DataFrame) -> np.ndarray:
    """Which images are known to be right for each query, bool [Q, N]: those that have a value, or
    its text, as tables keep it. Raises KeyError for a field that images lack."""

    def has(field: str, values: list) -> pd.Series:
        return images[field].isin(values) | images[field].map(cell).isin(map(cell, values))

    def matches(where: dict) -> np.ndarray:
        if unknown := where.keys() - set(images.columns):
            raise KeyError(
                f"images have no field {sorted(unknown)}; expected some of {list(images.columns)}"
            )
        tests = [
            has(field, values if isinstance(values, list) else [values])
            for field, values in where.items()
        ]
        return np.logical_and.reduce(tests) if tests else np.zeros(len(images), bool)

    return np.array([matches(json.loads(where)) for where in queries["where"]]).reshape(
        len(queries), len(images)
    )
