"""Ways to break one thing of a study and then to ask for something that must be refused.

A row is a function of pytest's monkeypatch; it breaks something in the current folder, and returns
what must be refused.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from helpers import UNET, coco_content
from PIL import Image

import abu
from abu import ROOT
from abu.data.captions import load_captions
from abu.data.prepared import Prepared
from abu.data.published import exemplars, read_tasks
from abu.diffusion.components import load_components
from abu.diffusion.encode import prepare
from abu.diffusion.train import Recipe, train
from abu.judge.retrain import Retraining, retrain
from abu.study.run import parameters
from abu.study.tasks import run_tasks

Call = Callable[[], object]
Spoil = Callable[[Path], object]
Row = Callable[[object], Call]
STEP = {"relative_norm": 0.1, "damping": 0.1}


@cache
def cells(notebook: str) -> list:
    cells = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", 4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def run(stage: str, **changes) -> None:
    """What ``abu.study.run`` does with a stage in the current folder, in this process and without
    figures, which take most of the time."""
    _, values = parameters(stage, changes, Path.cwd())
    Path(values["out"]).mkdir(parents=True, exist_ok=True)
    scope = {"display": lambda table: None}
    nothing = lambda *shown, **options: None
    for cell in cells(stage):
        exec(cell.source, scope)
        for name, part in list(scope.items()):
            if (getattr(part, "__module__", None) or "").startswith("abu.report."):
                scope[name] = nothing
        if "parameters" in cell.metadata.get("tags", []):
            scope |= values


class Bomb:
    """Unpickling this leaves a file."""

    def __reduce__(self):
        return open, ("exploded", "w")


# What spoils a file


def edited(**changes) -> Spoil:
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def array(change: Callable) -> Spoil:
    return lambda path: np.save(path, change(np.load(path)))


def sevenths(values: np.ndarray) -> np.ndarray:
    gone = np.arange(values.size).reshape(values.shape) % 7 == 0
    return np.where(gone, np.nan, values).astype(values.dtype)


with_nan, one_less = array(sevenths), array(lambda values: values[:-1])


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def pickled(path: Path) -> None:
    np.save(path, np.array([Bomb()], object), allow_pickle=True)


def text(content: str) -> Spoil:
    return lambda path: path.write_text(content)


def as_bin(write: Spoil) -> Spoil:
    """In place of a safetensors file a ``.bin``, as torch writes it."""
    return lambda path: (path.unlink(), write(path.with_suffix(".bin")))


# Rows


def asked(stage: str, **changes) -> Row:
    return lambda patch: partial(run, stage, **changes)


def spoilt(path: str, change: Spoil, stage: str, **changes) -> Row:
    def row(patch) -> Call:
        change(Path("results", path))
        return partial(run, stage, **changes)

    return row


def after(first: Call, stage: str, **changes) -> Row:
    """Asked after something else was done."""
    return lambda patch: (first(), partial(run, stage, **changes))[1]


def calling(function: Callable, *arguments) -> Row:
    return lambda patch: partial(function, *arguments)


def coco(change: Callable[[dict, Path], object], keep: dict | None = None) -> Row:
    """A COCO folder of two pictures, spoilt; what ``change`` returns, if it is a text, is the
    annotations file."""

    def row(patch) -> Call:
        folder, content = Path("coco"), coco_content()
        folder.mkdir()
        for image in content["images"]:
            noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(folder / image["file_name"])
        changed = change(content, folder)
        annotations = changed if isinstance(changed, str) else json.dumps(content)
        Path("coco.json").write_text(annotations)
        given = {"annotations": "coco.json", "images": "coco", "keep": keep or {}}
        return partial(run, "prepare", **given)

    return row


def picture(change: Spoil) -> Row:
    """One of those two pictures, spoilt."""
    return coco(lambda content, folder: (change(folder / "1.png"), None)[1])


def tasks(rows: object, cases: str = "[]") -> Row:
    """A published task list, and its list of exemplars."""

    def row(patch) -> Call:
        Path("json").mkdir()
        Path("a.png").touch()
        Path("tasks.json").write_text(json.dumps(rows))
        Path("json/one.json").write_text(cases)
        return lambda: exemplars(read_tasks(Path("tasks.json"), Path()), Path())

    return row


def boxed(shared: None, x: int) -> dict[str, torch.Tensor]:
    return {"x": torch.tensor([x])}


def finished(change: Spoil) -> Row:
    """A finished task, spoilt."""

    def row(patch) -> Call:
        ask = partial(run_tasks, boxed, None, {"a": (1,)}, scratch=Path("kept"))
        change(ask()["a"].path)
        return lambda: ask()["a"]["x"]

    return row


def small_train(checkpoint: Path) -> None:
    data = Prepared(Path("results/prepare"))
    components = load_components("results/components/model")
    recipe = Recipe(UNET | {"cross_attention_dim": 128}, 1, 2, 1e-3, 1)
    train(data, components.scheduler, recipe, data.ids, checkpoint=checkpoint)


def checkpoint(change: Spoil) -> Row:
    return lambda patch: (change(Path("kept.pt")), partial(small_train, Path("kept.pt")))[1]


def remove(ids: list[int]) -> None:
    trained = json.loads(Path("results/train/train.json").read_text())
    recipe = Recipe(trained["config"], steps=1, batch_size=1, lr=1e-3, warmup=1)
    data = Prepared(Path("results/prepare"))
    retrain(Retraining(data, None, recipe, trained["train_ids"], "cpu"), ids, 0)


def full_disk(module, name: str, call: Call) -> Row:
    """No space is left when a function of a module has begun to write."""

    def fail(*arguments, **options):
        for path in arguments:
            if isinstance(path, Path):
                path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda patch: patch.setattr(module, name, fail) or call


def encode() -> None:
    kept = {"concept": ["skull"]}
    records = load_captions(Path("data/captions.json"), Path("data/images"), kept)
    prepare(records, load_components("data/components"), Path("results/prepare"), 64, "float16")


def contents(root: Path) -> dict[str, str]:
    """Hash of each file below a folder, but for finished tasks, which are kept by design; torn ones
    count."""
    files = [path for path in root.rglob("*") if path.is_file()]
    files = [path for path in files if path.name.startswith(".") or "scratch" not in path.parts]
    hashed = lambda path: hashlib.md5(path.read_bytes()).hexdigest()
    return {str(path.relative_to(root)): hashed(path) for path in files}


def refused(rows: dict[str, tuple]) -> Callable:
    """A test of rows by name: what is broken, the error (without: ValueError) and its message.
    The message names what was found or expected; the folder is as before, byte by byte."""

    @pytest.mark.parametrize("row", rows)
    def test(row: str, good: Path, tmp_path: Path, monkeypatch) -> None:
        broken, *error, message = rows[row]
        root = tmp_path / "study"
        large = shutil.ignore_patterns("components")  # and no row touches it
        shutil.copytree(good, root, symlinks=True, ignore=large)
        (root / "results/components").symlink_to(good / "results/components")
        monkeypatch.chdir(root)
        monkeypatch.setattr(abu, "ROOT", root)
        call = broken(monkeypatch)
        before = contents(root)
        with pytest.raises(error[0] if error else ValueError, match=message):
            call()
        assert contents(root) == before

    return test
