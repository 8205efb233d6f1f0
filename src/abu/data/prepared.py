"""Encoded images and captions on disk, as the stage ``prepare`` leaves them."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from abu.data.files import write_json
from abu.data.manifest import check_manifest, fingerprint
from abu.data.readers import read_array
from abu.data.rows import Rows, Stored
from abu.data.tables import cell, read_table, write_table

OWN = ("id", "file", "caption", "captions", "exemplar")
"""Columns of a table of images that no record may have: its field is ``record.file``, and so on."""


class Prepared:
    """What ``prepare`` left: ``ids``, ``images`` (a table), ``latents`` [N, 2, c, h, w] (image and
    mirror image), ``texts`` [N, C, L, D], ``counts`` (captions of each, or None: each has C),
    ``background`` (of transparent pictures), ``empty`` [L, D] (no caption). Latents and texts stay
    on disk (``abu.data.rows``). ``encode`` turns token ids into token states, where ids alone were
    stored."""

    def __init__(self, folder: Path, encode: Callable[[torch.Tensor], torch.Tensor] | None = None):
        self.folder = folder
        self.manifest = check_manifest(folder / "manifest.json", {})
        if lacking := {"ids", "latents", "side", "token_states"} - self.manifest.keys():
            raise ValueError(
                f"{folder / 'manifest.json'} lacks {sorted(lacking)}; expected what prepare writes"
            )
        self.ids: list[int] = self.manifest["ids"]
        table, numbers = read_table(folder / "images.csv"), self.manifest.get("numbers", {})
        self.background: str = self.manifest.get("background", "white")
        self.latents = Rows(Stored(folder / "latents.npy"))
        self.empty = torch.from_numpy(read_array(folder / "empty.npy"))
        on_the_fly = self.manifest["token_states"] == "on-the-fly"
        counts = self.manifest.get("counts")  # of captions, where they differ
        self.counts = counts and torch.tensor(counts)
        self.texts = Rows(Stored(folder / "texts.npy", encode if on_the_fly else None))
        lengths = {len(self.ids), len(self.latents), len(self.texts), len(counts or self.ids)}
        listed = list(table.get("id", [])) if numbers.keys() <= set(table) else []
        if listed != self.ids or len(lengths) > 1:
            raise ValueError(
                f"{folder}: images.csv, latents.npy, texts.npy and manifest.json list different "
                "images"
            )
        self.images = table.astype(numbers)
        if self.texts.shape[2:] != self.empty.shape:
            raise ValueError(
                f"{folder}: token states are {tuple(self.texts.shape[2:])}; that of no caption is "
                f"{tuple(self.empty.shape)}"
            )

    def rows(self, ids: list[int]) -> torch.Tensor:
        """Positions of ``ids``; raises KeyError for an id that was not prepared."""
        place = {id: row for row, id in enumerate(self.ids)}
        if unknown := [id for id in ids if id not in place]:
            raise KeyError(f"images {unknown[:5]} were not prepared")
        return torch.tensor([place[id] for id in ids])


def describe(records, out: Path, **facts) -> None:
    """Table and manifest of what was prepared of ``records``, whose latents are in ``out``: of
    captions the first, and all as a JSON list. Fields of records are texts, or, where all of them
    are, numbers; one that is called as a column of ours comes as ``record.NAME``."""
    names = {
        field: f"record.{field}" if field in OWN else field for r in records for field in r.fields
    }
    columns = {
        "id": [r.id for r in records],
        "file": [str(r.path) for r in records],
        "caption": [r.captions[0] for r in records],
        "captions": [json.dumps(r.captions, ensure_ascii=False) for r in records],
    }
    numbers = {}
    for field, name in names.items():
        values = [r.fields.get(field) for r in records]
        kinds = {type(value) for value in values}
        if kinds in ({int}, {float}) and all(abs(value) < 2**63 for value in values):
            numbers[name] = "int64" if kinds == {int} else "float64"
        columns[name] = list(map(cell, values))
    if numbers:
        facts["numbers"] = numbers
    write_table(out / "images.csv", pd.DataFrame(columns))
    write_json(
        out / "manifest.json",
        {"ids": [r.id for r in records], **facts, "latents": fingerprint(out / "latents.npy")},
    )
