"""A plan of the study: what each stage does, how often, and what that costs at the speeds that ``abu.study.calibrate`` measures.

A pass is what a stage does over and over. Its units are rows of the U-Net (one noisy latent once through it), or what ``KINDS`` says.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import log2, prod
from typing import NamedTuple

from abu.study.sizes import Sizes

KINDS = {  # what a unit of a pass is
    "losses": "row forward, captions shared: loss tables",
    "sample": "row forward: pictures are drawn, two rows a step with guidance",
    "train": "row forward and backward to all weights, AdamW, averaging",
    "fisher": "row forward and backward, per-example gradients squared (EK-FAC: its factors too)",
    "eigenvalues": "row forward and backward, per-example gradients in the eigenbasis",
    "store": "row forward, a backward for the loss and for each cotangent, projected",
    "influence": "row forward, a backward for the loss and for each cotangent, times all moves",
    "gradient": "row forward and backward to the attributed weights: a query's gradient",
    "features": "row forward and backward: gradients of an image, sketched",
    "forward mode": "row forward with its derivative along a move",
    "customize": "row forward and backward to keys, values and the new token",
    "prepare": "picture read and encoded with its mirror image and captions",
    "text": "caption encoded on the fly",
    "decode": "picture decoded",
    "read": "picture read",
    "solve": "GFLOP of double-precision algebra: kernel methods",
    "answer": "image of the store answered for all queries",
    "panel": "picture in a figure",
}


TABLE = 100
"""Bytes a row of a csv table with a few columns."""


HEADER = 128
"""Bytes of a .npy file beside its numbers."""


class Pass(NamedTuple):
    """``batch`` units go at once; ``options`` are those of the kind's function in ``abu.study.passes.RUNS``."""

    kind: str
    batch: int = 1
    options: tuple = ()


@dataclass(frozen=True)
class Rate:
    """What a pass costs. Of one unit: ``flops`` and ``seconds``; of a batch of n units: ``fixed + n * each`` bytes, alive at once beside
    the models."""

    flops: float
    seconds: float
    fixed: float
    each: float


@dataclass
class Stage:
    """Units by pass; bytes that the stage leaves in its folder and keeps in ``scratch/``; bytes of arrays that it holds."""

    name: str
    customized: str = ""
    work: Counter = field(default_factory=Counter)
    disk: float = 0
    scratch: float = 0
    held: float = 0

    @property
    def units(self) -> Counter:
        """Units by kind of pass."""
        found = Counter()
        for one, count in self.work.items():
            found[one.kind] += count
        return found


def near(batch: int) -> int:
    """The nearest power of two, for passes whose batches differ between stages: few are then to be measured."""
    return 2 ** round(log2(max(batch, 1)))


@dataclass(frozen=True)
class Study:
    """All parameters of a study, and its sizes."""

    params: dict
    sizes: Sizes

    def section(self, stage: str) -> dict:
        """Parameters of a stage, its own over those of its notebook."""
        return {
            **(self.params[stage.removesuffix("-customized")] or {}),
            **(self.params[stage] or {}),
        }

    @property
    def trained(self) -> int:
        """Images that are trained on and scored."""
        train = self.params["train"]
        return self.sizes.images - (0 if train["source"] else train["heldout"])

    @property
    def queries(self) -> dict[str, int]:
        """Queries of the trained model by kind."""
        return {kind: len(prompts) for kind, prompts in self.params["generate"]["prompts"].items()}

    @property
    def reported(self) -> int:
        """Queries of the trained model that are reported."""
        return sum(n for kind, n in self.queries.items() if kind != "tuning")

    def asked(self, model: str) -> int:
        """Queries of a customized model."""
        prompts, category = (
            self.section("generate-customized")["prompts"],
            (self.params["common"]["models"][model] or {}).get("category"),
        )
        return self.sizes.published.get(model) or len(
            prompts.get(model) or prompts.get(category) or []
        )

    def scored(self, model: str = "") -> tuple[int, int]:
        """Images that a (customized) model's pictures are attributed to, and the captions of each."""
        return (
            (self.trained + self.sizes.exemplars[model], 1)
            if model
            else (self.trained, self.sizes.captions)
        )

    def text_bytes(self, captions: int, states: str) -> int:
        """Bytes of an image's token states, or of its token ids."""
        return (
            captions
            * self.sizes.tokens
            * {"float16": 2 * self.sizes.width, "float32": 4 * self.sizes.width}.get(states, 4)
        )

    def prepared(self, images: int, captions: int, states: str) -> int:
        """Bytes that ``prepare`` leaves."""
        s = self.sizes
        arrays = (
            images * (4 * s.flips * prod(s.latent) + self.text_bytes(captions, states))
            + 4 * s.tokens * s.width
        )
        return arrays + 3 * HEADER + images * TABLE

    def read(self, captions: float) -> Counter:
        """Passes of so many captions that are read: where their token states are not kept they are encoded, whenever they are read."""
        return Counter({Pass("text", 64): captions} if self.sizes.states == "on-the-fly" else {})


def predict(
    stage: Stage, rates: dict[Pass, Rate], sizes: Sizes, start: tuple[float, float], gpu: bool
) -> dict[str, float]:
    """FLOPs, seconds, bytes left (``disk``) and kept in scratch, peak bytes of the process (``memory``) and of the accelerator
    (``accelerator``, 0 without one). ``rates``: by pass; ``start``: seconds and resident bytes of a process that has imported all."""
    models, work = (
        4 * (sizes.unet + sizes.frozen),
        {p: units for p, units in stage.work.items() if units},
    )
    batch = max((rates[p].fixed + p.batch * rates[p].each for p in work), default=0)
    return {
        "stage": stage.name,
        "customized": stage.customized,
        "flops": sum(units * rates[p].flops for p, units in work.items()),
        "seconds": start[0] + sum(units * rates[p].seconds for p, units in work.items()),
        "disk": stage.disk,
        "scratch": stage.scratch,
        "memory": start[1] + models + stage.held + (0 if gpu else batch),
        "accelerator": models + batch if gpu else 0,
    }
