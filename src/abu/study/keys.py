"""What names a task: the source of every module that its function reaches, and the bytes of what it
is given.

Nothing is listed by hand: modules are found from imports, and everything that a task is given is
walked through. Anything of a kind that is not known here is refused, for what is left out of a key
is a stale result in waiting.
"""

import ast
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor, device, nn
from transformers import PreTrainedTokenizerBase

import abu

SOURCES = Path(abu.__file__).parent


@cache
def imported(source: str) -> set[str]:
    """Dotted names under ``abu`` that a source imports, at its top or within a function."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.split(".")[0] == "abu"}


def reached(start: Path, sources: Path = SOURCES) -> list[Path]:
    """A file and every module of ``abu`` that it imports, directly or through others, sorted."""
    seen, waiting = set(), [start]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        parts = (name.split(".")[1:] for name in imported(path.read_text()))
        files = (sources.joinpath(*words).with_suffix(".py") for words in parts if words)
        waiting += [file for file in files if file.is_file()]
    return sorted(seen)


@cache
def file_digest(path: Path, size: int, changed: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def of_file(path: Path) -> bytes:
    """Digest of a file's bytes; of a folder's, names and bytes of all files below it."""
    if path.is_dir():
        below = sorted(p for p in path.rglob("*") if p.is_file())
        return b"".join(str(p.relative_to(path)).encode() + of_file(p) for p in below)
    stat = path.stat()
    return file_digest(path.absolute(), stat.st_size, stat.st_mtime_ns)


def key(*values) -> str:
    """Short name of values: numbers, texts, arrays and tensors, files (paths), models, schedulers,
    tokenizers, tables, functions and objects of ``abu`` (with their source), and what holds such
    things. Raises TypeError for anything else.

    A dataclass's field with the metadata ``hashed: False`` counts for nothing.
    """
    digest = hashlib.blake2b(digest_size=12)

    def feed(kind: str, *parts: bytes) -> None:
        for chunk in (kind.encode(), *parts):
            digest.update(len(chunk).to_bytes(8, "little"))
            digest.update(chunk)

    def walk(value) -> None:
        kind = type(value).__qualname__
        if value is None or isinstance(value, int | float | str | bytes | np.generic | device):
            feed(kind, repr(value).encode())
        elif isinstance(value, Path):
            feed("file", of_file(value))
        elif isinstance(value, Tensor):
            walk(value.detach().cpu().numpy())
        elif isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                raise TypeError("an array of objects has no bytes to be named by")
            feed("array", str((value.dtype.str, value.shape)).encode(), value.tobytes())
        elif isinstance(value, pd.DataFrame):
            feed("table", value.to_csv().encode())
        elif isinstance(value, Mapping):
            feed("mapping", str(len(value)).encode())
            for name, item in value.items():
                walk((name, item))
        elif isinstance(value, set | frozenset):
            walk(sorted(value))
        elif isinstance(value, list | tuple | range):
            feed("sequence", str(len(value)).encode())
            for item in value:
                walk(item)
        elif is_dataclass(value) and not isinstance(value, type):
            walk(type(value))
            shown = (field for field in fields(value) if field.metadata.get("hashed", True))
            walk({field.name: getattr(value, field.name) for field in shown})
        elif isinstance(value, nn.Module):
            feed(kind)
            config = getattr(value, "config", {})
            config = dict(config) if isinstance(config, Mapping) else config.to_dict()
            if unset := config.get("_use_default_values"):  # diffusers lists a set of names
                config["_use_default_values"] = sorted(unset)
            walk(config)
            walk(value.state_dict())
        elif isinstance(value, PreTrainedTokenizerBase):
            words = sorted(value.get_vocab().items())
            feed(kind, str(words).encode(), str(value.model_max_length).encode())
        elif isinstance(value, partial):
            walk((value.func, value.args, value.keywords))
        elif inspect.ismethod(value):
            walk((value.__func__, value.__self__))
        elif inspect.isfunction(value) or isinstance(value, type):
            feed(kind, value.__qualname__.encode())
            for path in reached(Path(inspect.getfile(value))):
                feed(path.stem, of_file(path))
        elif isinstance(getattr(value, "config", None), Mapping):  # a scheduler of diffusers
            feed(kind)
            walk({name: item for name, item in value.config.items() if not name.startswith("_")})
        elif type(value).__module__.split(".")[0] == "abu":
            walk(type(value))
            reduces = type(value).__reduce__ is not object.__reduce__
            walk(value.__reduce__()[1] if reduces else vars(value))
        else:
            raise TypeError(
                f"a task is given a {kind}, which has no name; expected arrays, numbers, texts, "
                "files, models"
            )

    walk(values)
    return digest.hexdigest()


def key_of(function: Callable, shared) -> str:
    """Name of what a function makes of what its tasks share."""
    return f"{function.__name__}-{key(function, shared)}"
