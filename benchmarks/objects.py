"""Do the scenes' pictures show what was asked for? ``python benchmarks/objects.py``, on the preset
``scenes`` after the stage ``generate``.

Where a thing stands, and how large, nobody chose, so the nearest training picture says little:
each half of a picture of two (of one, the whole) goes to the concept of which some picture of the
data, at some size and place, mirrored or not, is nearest by pixels. Beside it the same of the
scenes, encoded and decoded, what a perfect model would reach. Writes ``benchmarks/objects.csv``,
and after ``localize`` ``benchmarks/parts.csv``: does a box also choose the images of what was asked
for and is not there?
"""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import ImageOps
from torch.nn.functional import conv2d

from abu import ROOT
from abu.data.captions import load_captions
from abu.data.prepared import Prepared
from abu.data.queries import read_queries
from abu.diffusion.components import load_components
from abu.diffusion.hit import hit_rate
from abu.study.folders import results

sys.path.append(str(ROOT / "scripts"))
from scenes import CONCEPTS, SIDE, SIZES, TUNING, cut_out  # noqa: E402


def pictures_of(concepts: list[str]) -> dict[str, list]:
    """The data's pictures of each concept, cut out. Raises ValueError for one that has none."""
    shown: dict[str, list] = {concept: [] for concept in concepts}
    for record in load_captions(ROOT / "data/captions.json", ROOT / "data/images"):
        if record.fields["concept"] in shown:
            shown[record.fields["concept"]].append(cut_out(record.path))
    if bare := [concept for concept, pictures in shown.items() if not pictures]:
        raise ValueError(f"data/captions.json has no picture of {bare}")
    return shown


def nearest(drawn: torch.Tensor, shown: dict[str, list]) -> np.ndarray:
    """Concept of each of ``drawn``, [B, 3, H, W] in [0, 1], of which a picture of ``shown`` (of
    each concept), placed on white, is nearest by squared distance."""
    dark, best = drawn - 1, []
    for pictures in shown.values():
        least = torch.full((len(drawn),), torch.inf)
        for picture in (p for own in pictures for p in (own, ImageOps.mirror(own))):
            for longer in SIZES:
                small = ImageOps.pad(picture, (longer, longer), color="white")
                own = torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255 - 1
                # |x - t|^2 at every place: what is outside of the picture is white, 0 here
                apart = own.square().sum() - 2 * conv2d(dark, own[None])
                least = torch.minimum(least, apart.flatten(1).min(1).values)
        best.append(least)
    return np.array(list(shown))[torch.stack(best).argmin(0).numpy()]


def hits(asked: list[list[str]], pictures: torch.Tensor, shown: dict) -> pd.DataFrame:
    """Of each thing asked for, from left to right: its ``picture`` (number) and ``place``, how many
    ``things`` are in it, ``concept``, and whether it is what stands ``there``."""
    rows = []
    for things in (1, 2):
        at = [i for i, names in enumerate(asked) if len(names) == things]
        for place, half in enumerate(pictures[at].split(SIDE // things, -1) if at else ()):
            found = nearest(half, shown)
            for i, there in zip(at, found):
                rows.append((i, place, things, asked[i][place], asked[i][place] == there))
    return pd.DataFrame(rows, columns=["picture", "place", "things", "concept", "there"])


def parts(found: pd.DataFrame, asked: list[list[str]], localized: pd.DataFrame) -> pd.DataFrame:
    """Of parts that stand there and of those that do not: how well a box around them chooses their
    images, as the stage ``localize`` found (``choice``), its standard error over parts, and how
    well the whole picture does."""
    two = found[found.things == 2]
    composite = [" | ".join(asked[i]) for i in two.picture]
    region = two.place.map({0: "left", 1: "right"})
    table = two.assign(composite=composite, region=region).merge(localized)
    columns = {"parts": ("choice", "size"), "choice": ("choice", "mean"), "se": ("choice", "sem")}
    return table.groupby("there").agg(**columns, whole=("choice, whole", "mean"))


def main() -> None:
    os.chdir(ROOT)
    shown = pictures_of(CONCEPTS + TUNING)
    queries = read_queries(results("generate") / "queries.csv").query("prompt != ''")
    drawn = torch.from_numpy(np.load(results("generate") / "pictures.npy")[queries["query"]])
    components = load_components("results/components/model", "cpu")
    data = Prepared(Path("results/prepare"), components.states)
    right = data.images[data.images.captioned == "right"][::2]
    there = components.decode(data.latents[data.rows(right.id.tolist()), 0])
    sources = {"drawn by the model": (queries.prompt, drawn), "scenes": (right.caption, there)}
    rows = []
    for name, (texts, pictures) in sources.items():
        asked = [text.split(" and ") for text in texts]
        table = hits(asked, pictures, shown)
        if name != "scenes" and (file := Path("results/localize/localized.csv")).is_file():
            told = parts(table, asked, pd.read_csv(file)).round(3)
            told.to_csv("benchmarks/parts.csv")
            print(told)
        for things, own in table.groupby("things"):
            each = own.groupby("concept").there.mean().to_numpy()[None]
            rate = hit_rate(each) | {"mean": own.there.mean()}
            rows.append({"pictures": name, "things": things, "asked": len(own), **rate})
    found = pd.DataFrame(rows).round(3)
    found.to_csv("benchmarks/objects.csv", index=False)
    print(found.to_string(index=False))


if __name__ == "__main__":
    main()
