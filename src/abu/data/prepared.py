"""Encoded images and captions on disk, as the stage ``prepare`` leaves them."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from abu.data.files import write_atomically, write_json
from abu.data.manifest import check_manifest, fingerprint
from abu.data.readers import read_array
from abu.data.rows import Rows, Stored


class Prepared:
    """What ``prepare`` left: ``ids``, ``images`` (a table), ``latents`` [N, 2, c, h, w] (image and
    mirror image), ``texts`` [N, C, L, D], ``empty`` [L, D] (no caption). Latents and texts stay
    on disk (``abu.data.rows``). ``encode`` turns token ids into token states, where ids alone
    were stored."""

    def __init__(self, folder: Path, encode: Callable[[torch.Tensor], torch.Tensor] | None = None):
        self.folder = folder
        self.manifest = check_manifest(folder / "manifest.json", {})
        if lacking := {"ids", "latents", "side", "token_states"} - self.manifest.keys():
            raise ValueError(
                f"{folder / 'manifest.json'} lacks {sorted(lacking)}; expected what prepare writes"
            )
        self.ids: list[int] = self.manifest["ids"]
        self.images = pd.read_csv(folder / "images.csv", keep_default_na=False)
        self.latents = Rows(Stored(folder / "latents.npy"))
        self.empty = torch.from_numpy(read_array(folder / "empty.npy"))
        on_the_fly = self.manifest["token_states"] == "on-the-fly"
        self.texts = Rows(Stored(folder / "texts.npy", encode if on_the_fly else None))
        lengths = {len(self.ids), len(self.latents), len(self.texts)}
        if list(self.images.get("id", [])) != self.ids or len(lengths) > 1:
            raise ValueError(
                f"{folder}: images.csv, latents.npy, texts.npy and manifest.json list different "
                "images"
            )
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
    """Table and manifest of what was prepared of ``records``, whose latents are in ``out``."""
    table = pd.DataFrame(
        [{"id": r.id, "file": str(r.path), "caption": r.captions[0], **r.fields} for r in records]
    )
    write_atomically(out / "images.csv", lambda file: table.to_csv(file, index=False))
    write_json(
        out / "manifest.json",
        {"ids": [r.id for r in records], **facts, "latents": fingerprint(out / "latents.npy")},
    )
