"""The scenes are what scripts/scenes.py composes of the embedded pictures."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scenes
from PIL import Image, ImageChops
from ruamel.yaml import YAML
from scenes import CONCEPTS, TUNING

from abu import ROOT

RECORDED = ROOT / "data/scenes"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    scenes.main(str(out))
    return out


@pytest.fixture(scope="module")
def content(made) -> dict:
    return json.loads((made / "captions.json").read_text())


def test_the_recorded_scenes_are_composed_again(made: Path) -> None:
    assert (made / "captions.json").read_text() == (RECORDED / "captions.json").read_text()
    files = sorted(path.name for path in (made / "images").iterdir())
    assert files == sorted(path.name for path in (RECORDED / "images").iterdir())
    for name in files:
        again, there = (np.asarray(Image.open(f / "images" / name)) for f in (made, RECORDED))
        assert np.abs(again.astype(int) - there).max() <= 1, name  # another Pillow may round so


def test_captions_are_right_wrong_or_none(content: dict) -> None:
    texts = {each["image_id"]: each["caption"] for each in content["annotations"]}
    for image in content["images"]:
        named = texts[image["id"]].split(" and ")
        shown = {concept for concept in CONCEPTS + TUNING if image[concept]}
        assert len(shown) == image["pictures"]
        assert (image["captioned"] == "right") == (set(named) == shown)
        assert (image["captioned"] == "none") == (named == [""])
    kinds = Counter(image["captioned"] for image in content["images"])
    assert kinds["wrong"] == kinds["none"] == round(0.1 * len(content["images"]))


def test_every_concept_is_shown_about_as_often(content: dict) -> None:
    counts = [sum(image[c] for image in content["images"]) for c in CONCEPTS + TUNING]
    assert max(counts) - min(counts) <= 3


def test_no_scene_shows_what_is_asked_together(content: dict) -> None:
    preset = YAML(typ="safe").load(ROOT / "presets/scenes.yaml")
    for prompts, concepts in (("prompts", CONCEPTS), ("tuning", TUNING)):
        pairs = scenes.asked_together(concepts)
        asked = preset[f"generate.{prompts}"]
        assert [" and ".join(pair) for pair in pairs] == asked["pair"]
        assert {name: list(where) for name, where in asked["plain"].items()} == {
            concept: [concept] for concept in concepts
        }
        assert not any(image[a] and image[b] for a, b in pairs for image in content["images"])
    assert preset["localize.pairs"] == [list(pair) for pair in scenes.asked_together(CONCEPTS)]


def test_a_picture_is_within_its_half_at_a_place_of_the_latents() -> None:
    red = Image.new("RGB", (10, 20), "red")
    for name in range(20):
        scene = Image.new("RGB", (64, 64), "white")
        scenes.placed(scene, red, (32, 0, 64, 64), "test", name)
        box = ImageChops.difference(scene, Image.new("RGB", scene.size, "white")).getbbox()
        left, top, _, bottom = box
        assert left >= 32 and bottom - top in scenes.SIZES and top % 8 == 0
