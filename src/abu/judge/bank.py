"""The bank: what models that were trained without some of the images make of the queries.

A folder: ``bank.json`` (what was asked, of which images and recipe), ``queries.csv``, and one
``models/NAME.npz`` for each model: ``removed`` (ids), ``training`` (loss of each step),
``losses`` float32 [A, T, E] (asked pictures, timesteps, noises), ``drawn`` uint8 [Q, 3, s, s] (each
query from its own noise and prompt), ``made`` (on what and when, as JSON).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from abu.data.files import write_atomically
from abu.data.queries import read_queries
from abu.diffusion.noise import permutation

SIDES = "ab"  # of a pair: a half and its complement
TUNING = 3  # every so many pairs one chooses hyper-parameters, and reports nothing


@dataclass(frozen=True)
class Model:
    """One model of a bank: trained under ``seed`` without ``removed`` (ids); ``pair`` and ``side``
    of a half, -1 and "" of others, which ``label`` names where something was removed."""

    seed: int
    removed: tuple
    pair: int = -1
    side: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        half = f"-pair-{self.pair:03}{self.side}" if self.side else ""
        return self.label or f"seed-{self.seed}{half}"


def plan_bank(ids: Sequence, pairs: dict[int, int], full: Sequence[int]) -> list[Model]:
    """Models of a bank: random halves and their complements, so many ``pairs`` under each seed, and
    models of the ``full`` seeds, from which nothing is removed; each kind spread over the list, so
    that a bank that stops early has some of each.

    Half number p is named ("half", p), the same for all seeds.
    """

    def both(seed: int, pair: int) -> list[Model]:
        order = [ids[i] for i in permutation(len(ids), "half", pair)]
        cut = len(ids) // 2
        gone = {"a": order[cut:], "b": order[:cut]}
        return [Model(seed, tuple(sorted(gone[side])), pair, side) for side in SIDES]

    groups = [((p + 0.5) / n, both(seed, p)) for seed, n in pairs.items() for p in range(n)]
    groups += [((k + 0.5) / len(full), [Model(seed, ())]) for k, seed in enumerate(full)]
    return [model for _, group in sorted(groups, key=lambda each: each[0]) for model in group]


def digest(array: np.ndarray) -> str:
    """Short name of an array's bytes and shape."""
    data = str((array.dtype.str, array.shape)).encode() + array.tobytes()
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def write_model(folder: Path, model: Model, made: dict, arrays: dict[str, np.ndarray]) -> None:
    """Record one model; a file is whole or not there."""
    rows: dict[str, Any] = {"removed": np.array(model.removed), **arrays}
    rows["made"] = np.array(json.dumps(made, sort_keys=True))
    path = folder / "models" / f"{model.name}.npz"
    write_atomically(path, lambda file: np.savez_compressed(file, **rows))


@dataclass(frozen=True)
class Bank:
    """A bank as far as it is recorded: M models, A asked pictures of which the first Q are queries.

    ``models``: name, seed, pair, side, and on what each was made; ``kept``: bool [M, N], which of
    the ``ids`` each was trained on; ``losses``: float32 [M, A, T, E]; ``training``: [M, steps].
    """

    folder: Path
    facts: dict
    queries: pd.DataFrame
    models: pd.DataFrame
    kept: np.ndarray
    losses: np.ndarray
    training: np.ndarray

    @property
    def ids(self) -> list:
        """Of the images that the model in question was trained on."""
        return self.facts["ids"]

    @property
    def pair_seeds(self) -> list[int]:
        """Seeds under which halves were trained, that of the most first."""
        return self.models[self.models.pair >= 0].seed.value_counts().index.tolist()

    def removed(self, row: int) -> list:
        """Images that model number ``row`` went without."""
        return [id for id, kept in zip(self.ids, self.kept[row]) if not kept]

    def drawn(self, name: str) -> np.ndarray:
        """Queries as a model draws them, uint8 [Q, 3, s, s]."""
        return np.load(self.folder / "models" / f"{name}.npz")["drawn"]

    @property
    def latents(self) -> np.ndarray:
        """Those of the pictures that it was asked about, [A, c, h, w]."""
        return np.load(self.folder / "latents.npy")

    def judged(self, names: Sequence[str], latents: np.ndarray) -> np.ndarray:
        """Number in the bank of each picture [Q, c, h, w] that it was asked about, by name and to
        the bit; -1 of others."""
        recorded = self.latents
        place = {name: row for row, name in enumerate(self.queries.name)}
        rows = [place.get(name, -1) for name in names]
        same = [r >= 0 and np.array_equal(recorded[r], z) for r, z in zip(rows, latents)]
        return np.where(same, rows, -1)

    def pairs(
        self, seed: int | None, tuning: bool | None = None
    ) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Of the whole pairs of one seed: which images the first half has, bool [P, N], the losses
        of the first less those of the second, [P, A], and the pairs' numbers; ``tuning``: of those
        that choose hyper-parameters, of those that report, or (None) of both."""
        rows = self.models[(self.models.seed == seed) & (self.models.pair >= 0)]
        if tuning is not None:
            rows = rows[(rows.pair % TUNING == TUNING - 1) == tuning]
        places = rows.reset_index().pivot(index="pair", columns="side", values="index")
        places = places.reindex(columns=list(SIDES)).dropna().astype(int)
        mean = self.losses.mean((2, 3), dtype=np.float64)
        first, second = (places[side].to_numpy() for side in SIDES)
        return self.kept[first], mean[first] - mean[second], places.index.tolist()


def read_bank(folder: Path) -> Bank:
    """A recorded bank, whole or not.

    Raises FileNotFoundError where there is none, ValueError for a model of other images, pictures
    or recipe than ``bank.json`` says, FloatingPointError for losses that are not finite; each names
    the file.
    """
    file = folder / "bank.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; expected a bank of retrained models")
    facts, queries = json.loads(file.read_text()), read_queries(folder / "queries.csv")
    shape = (len(facts["asked"]), len(facts["timesteps"]), facts["noises"])
    ids = facts["ids"]
    rows, kept, losses, training = [], [], [], []
    for path in sorted((folder / "models").glob("*.npz")):
        with np.load(path) as arrays:
            made = json.loads(str(arrays["made"]))
            row = {name: made.pop(name) for name in ("seed", "pair", "side")}
            gone, values, steps = (arrays[name] for name in ("removed", "losses", "training"))
        if made["of"] != facts["of"]:
            raise ValueError(f"{path} is of {made['of']}; {file} of {facts['of']}")
        if unknown := set(gone.tolist()) - set(ids):
            raise ValueError(f"{path} lacks images {sorted(unknown)[:5]} that {file} does not have")
        if values.shape != shape:
            raise ValueError(f"{path} has losses {values.shape}; {file} asks for {shape}")
        # a step of a half whose images are all missing from the batch trains on nothing: NaN
        if not np.isfinite(values).all() or np.isinf(steps).any() or np.isnan(steps).all():
            raise FloatingPointError(f"losses of {path} are not all finite")
        rows.append({"name": path.stem, **row, **made})
        kept.append(~np.isin(ids, gone))
        losses.append(values)
        training.append(steps)
    columns = ["name", "seed", "pair", "side", "of", "seconds"]
    models = pd.DataFrame(rows, columns=None if rows else columns)
    masks = np.array(kept, bool).reshape(len(rows), len(ids))
    answers = np.array(losses, np.float32).reshape(len(rows), *shape)
    return Bank(folder, facts, queries, models, masks, answers, np.array(training, np.float32))
