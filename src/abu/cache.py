"""Caches on disk: memory-mapped arrays with a manifest, written whole or not at all."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from abu import ROOT
from abu.files import write_atomically
from abu.models import Components
from abu.readers import read_array
from abu.rows import Rows, Stored


def write_json(path: Path, facts: dict) -> None:
    """Facts as indented json."""
    write_atomically(path, lambda file: file.write_text(json.dumps(facts, indent=1) + "\n"))


def write_array(path: Path, array: np.ndarray | torch.Tensor) -> None:
    """One ``.npy`` file."""
    write_atomically(path, lambda file: np.save(file, np.asarray(array), allow_pickle=False))


def write_parts(path: Path, shape: tuple[int, ...], dtype: str, parts: Iterable[torch.Tensor]) -> None:
    """One ``.npy`` file of ``shape`` from parts that follow each other along its first axis, one in memory at a time.

    Raises ValueError unless the parts fill the file.
    """

    def write(file: Path) -> None:
        array, row = np.lib.format.open_memmap(file, "w+", dtype, shape), 0
        for part in parts:
            array[row : row + len(part)] = part
            row += len(part)
        if row != shape[0]:
            raise ValueError(f"{path}: {row} rows came; expected {shape[0]}")
        array.flush()

    write_atomically(path, write)


def fingerprint(*parts) -> str:
    """Short hash of json-able facts and of files (paths), e.g. of a model's weights."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


def code(*modules: str) -> list[Path]:
    """Source files of ``abu`` modules, for a fingerprint: results of edited code are not taken for current ones."""
    return [ROOT / "src" / "abu" / f"{module}.py" for module in modules]


def check_manifest(path: Path, expected: dict) -> dict:
    """Manifest at ``path``; raises ValueError for a torn one, or one whose first field that differs from ``expected`` it names."""
    try:
        found = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no json file: {error}") from error
    for field, value in expected.items():
        if found.get(field) != value:
            short = lambda x: text if len(text := json.dumps(x)) < 80 else text[:77] + "..."
            raise ValueError(f"{path}: {field} is {short(found.get(field))}; expected {short(value)}")
    return found


class Prepared:
    """What ``prepare`` left: ``ids``, ``images`` (a table), ``latents`` [N, 2, c, h, w] (image and mirror image),
    ``texts`` [N, C, L, D], ``empty`` [L, D] (no caption). Latents and texts stay on disk (``abu.rows``)."""

    def __init__(self, folder: Path, components: Components | None = None):
        self.folder = folder
        self.manifest = check_manifest(folder / "manifest.json", {})
        if lacking := {"ids", "latents", "side", "token_states"} - self.manifest.keys():
            raise ValueError(f"{folder / 'manifest.json'} lacks {sorted(lacking)}; expected what prepare writes")
        self.ids: list[int] = self.manifest["ids"]
        self.images = pd.read_csv(folder / "images.csv", keep_default_na=False)
        self.latents = Rows(Stored(folder / "latents.npy"))
        self.empty = torch.from_numpy(read_array(folder / "empty.npy"))
        encode = components.states if self.manifest["token_states"] == "on-the-fly" else None
        self.texts = Rows(Stored(folder / "texts.npy", encode))
        lengths = {len(self.ids), len(self.latents), len(self.texts)}
        if list(self.images.get("id", [])) != self.ids or len(lengths) > 1:
            raise ValueError(f"{folder}: images.csv, latents.npy, texts.npy and manifest.json list different images")
        if self.texts.shape[2:] != self.empty.shape:
            raise ValueError(f"{folder}: token states are {tuple(self.texts.shape[2:])}; that of no caption is {tuple(self.empty.shape)}")

    def rows(self, ids: list[int]) -> torch.Tensor:
        """Positions of ``ids``; raises KeyError for an id that was not prepared."""
        place = {id: row for row, id in enumerate(self.ids)}
        if unknown := [id for id in ids if id not in place]:
            raise KeyError(f"images {unknown[:5]} were not prepared")
        return torch.tensor([place[id] for id in ids])


def describe(records, out: Path, **facts) -> None:
    """Table and manifest of what was prepared of ``records``, whose latents are in ``out``."""
    table = pd.DataFrame([{"id": r.id, "file": str(r.path), "caption": r.captions[0], **r.fields} for r in records])
    write_atomically(out / "images.csv", lambda file: table.to_csv(file, index=False))
    write_json(out / "manifest.json", {"ids": [r.id for r in records], **facts, "latents": fingerprint(out / "latents.npy")})


def adopt(latents: np.ndarray, texts: np.ndarray, records, components: Components, out: Path, side: int) -> None:
    """What ``prepare`` would leave of ``records``, from arrays that somebody else encoded, copied part by part: scaled ``latents``
    [N, F, c, h, w], ``texts`` [N, C, L, D]. Raises ValueError for arrays of other shapes than the components make,
    FloatingPointError for values that are not finite."""
    empty, latent = components.texts([""]), components.encode(torch.zeros(1, 3, side, side))
    for name, found, made in (("token states", texts.shape[2:], empty.shape[1:]), ("latents", latents.shape[2:], latent.shape[1:])):
        if tuple(found) != tuple(made):
            raise ValueError(f"{name} are {tuple(found)}; the components make {tuple(made)} at {side} pixels")

    def parts(name: str, array: np.ndarray):
        for start in range(0, len(array), 64):
            part = torch.from_numpy(np.array(array[start : start + 64]))
            if not torch.isfinite(part).all():
                raise FloatingPointError(f"{name} of images number {start} to {start + len(part) - 1} are not all finite")
            yield part

    write_parts(out / "latents.npy", latents.shape, str(latents.dtype), parts("latents", latents))
    write_parts(out / "texts.npy", texts.shape, str(texts.dtype), parts("token states", texts))
    write_array(out / "empty.npy", empty[0])
    describe(records, out, captions=texts.shape[1], side=side, token_states=str(texts.dtype))


def prepare(records, components: Components, out: Path, side: int, token_states: str, progress: str = "") -> None:
    """Encode images, mirror images and captions into memory-mapped arrays, one batch in memory at a time.

    ``records``: from ``load_captions``; images with more captions than the fewest keep their first ones.
    ``token_states``: ``float16``, ``float32``, or ``on-the-fly`` (token ids alone are stored). Raises ValueError for another, or a
    side that the autoencoder does not divide, FloatingPointError for an image whose latents are not finite.
    """
    from abu.data import read_image
    from abu.progress import track

    if token_states not in ("float16", "float32", "on-the-fly"):
        raise ValueError(f"token_states is {token_states!r}; expected float16, float32 or on-the-fly")
    factor = 2 ** (len(components.vae.config.block_out_channels) - 1)
    if side < 1 or side % factor:
        raise ValueError(f"side is {side}; expected a multiple of {factor}, by which the autoencoder reduces pixels")
    captions = min(len(record.captions) for record in records)
    empty = components.texts([""])
    arrays = {}

    def array(name: str, dtype: str, *shape: int) -> np.ndarray:
        if name not in arrays:
            path = out / f".{name}.npy"
            arrays[name] = np.lib.format.open_memmap(path, "w+", dtype, (len(records), *shape))
        return arrays[name]

    try:
        for row, record in enumerate(track(records, progress)):
            pixels = torch.from_numpy(read_image(record.path, side))
            latents = components.encode(torch.stack([pixels, pixels.flip(-1)]))
            if not latents.isfinite().all():
                raise FloatingPointError(f"latents of {record.path} are not finite")
            array("latents", "float32", *latents.shape)[row] = latents
            tokens = components.tokens(list(record.captions[:captions]))
            if token_states == "on-the-fly":
                array("texts", "int32", *tokens.shape)[row] = tokens
            else:
                texts = components.states(tokens)
                array("texts", token_states, *texts.shape)[row] = texts
        for name, values in arrays.items():
            values.flush()
            (out / f".{name}.npy").rename(out / f"{name}.npy")
    finally:
        for name in arrays:
            (out / f".{name}.npy").unlink(missing_ok=True)
    write_array(out / "empty.npy", empty[0])
    describe(records, out, captions=captions, side=side, token_states=token_states)
