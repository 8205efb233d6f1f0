"""Each concept of the scenes can be hit: a picture of it alone on white is told to be of it."""

import importlib.util

import torch
from scenes import CONCEPTS, TUNING

from abu import ROOT
from abu.data.captions import load_captions
from abu.data.pictures import read_image

SPEC = importlib.util.spec_from_file_location("objects", ROOT / "benchmarks/objects.py")
objects = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(objects)


def test_every_concept_is_told() -> None:
    shown = objects.pictures_of(CONCEPTS + TUNING)
    assert list(sorted(shown)) == sorted(CONCEPTS + TUNING)
    folder = ROOT / "data/scenes"
    alone = [
        record
        for record in load_captions(folder / "captions.json", folder / "images")
        if record.fields["pictures"] == 1
    ][::4]
    pictures = torch.stack([torch.from_numpy(read_image(r.path, 64)) for r in alone]) / 2 + 0.5
    names = [next(c for c in CONCEPTS + TUNING if record.fields[c]) for record in alone]
    assert objects.nearest(pictures, shown).tolist() == names
