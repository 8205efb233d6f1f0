"""Captions and pictures: order, selection, exemplars by their fields, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import coco_content
from PIL import Image

from abu import ROOT
from abu.data.captions import Captioned, load_captions, load_exemplars
from abu.data.pictures import read_image


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for id in (3, 1):
        Image.new("RGB", (32, 48), (0, 0, 255)).save(tmp_path / "images" / f"{id}.png")
    write(tmp_path, coco_content())
    return tmp_path


def write(folder: Path, content: dict | str) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "captions.json").write_text(text)


def load(folder: Path, **options) -> list[Captioned]:
    return load_captions(folder / "captions.json", folder / "images", **options)


def test_captions_keep_the_order_of_the_images(coco) -> None:
    records = load(coco)
    assert [(r.id, r.captions, r.fields) for r in records] == [
        (3, ("c1",), {"kind": "a"}),
        (1, ("c0", "c2"), {"kind": "b"}),
    ]
    assert [r.id for r in load(coco, keep={"kind": ["b"]})] == [1]
    pixels = read_image(records[0].path, 16)
    assert pixels.shape == (3, 16, 16) and pixels[:, 0, 0].tolist() == [-1, -1, 1]


@pytest.mark.parametrize(
    "change, error",
    [
        (lambda c: c["images"].append(c["images"][0]), "duplicate image ids: .3."),
        (lambda c: c["annotations"].pop(1), "no caption for images .3."),
        (lambda c: c.pop("annotations"), "not a COCO captions file: expected images"),
        (lambda c: c["images"][0].pop("id"), "not a COCO captions file"),
        (lambda c: c.__setitem__("images", 5), "not a COCO captions file"),
    ],
)
def test_captions_that_are_wrong(coco, change, error: str) -> None:
    content = coco_content()
    change(content)
    write(coco, content)
    with pytest.raises(ValueError, match=error):
        load(coco)


def test_files_that_are_wrong(coco) -> None:
    write(coco, "{")
    with pytest.raises(ValueError, match="not a COCO captions file"):
        load(coco)
    write(coco, coco_content())
    with pytest.raises(ValueError, match="has no image where"):
        load(coco, keep={"kind": ["z"]})
    (coco / "images" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="1.png is not a readable image"):
        read_image(load(coco)[1].path, 16)
    (coco / "images" / "3.png").unlink()
    with pytest.raises(FileNotFoundError, match="lacks 1 images.*3.png"):
        load(coco)


def test_embedded_data_have_three_styles_and_five_captions() -> None:
    every = load_captions(ROOT / "data/captions.json", ROOT / "data/images")
    aside = load_captions(ROOT / "data/fluent-3d/captions.json", ROOT / "data/fluent-3d/images")
    assert len(every) == 3 * len(aside) and {len(r.captions) for r in every + aside} == {5}
    assert {r.fields["style"] for r in every} == {"noto", "twemoji", "fluent"}
    assert not {r.id for r in every} & {r.id for r in aside}


def test_exemplars_are_found_by_their_fields(tmp_path) -> None:
    folders = ROOT / "data", ROOT / "data/fluent-3d"
    sources = [(folder / "captions.json", folder / "images") for folder in folders]
    panda = {"concept": ["panda"]}
    exemplars = load_exemplars(sources, panda, "{concept} <new1> in {style}")
    styles = ("noto", "twemoji", "fluent", "fluent 3d")
    assert [r.captions for r in exemplars] == [(f"panda <new1> in {style}",) for style in styles]
    with pytest.raises(ValueError, match="no exemplar has {'concept': {'pandabear'}}"):
        load_exemplars(sources, {"concept": ["panda", "pandabear"]}, "<new1>")
    with pytest.raises(ValueError, match="no exemplar where {'concept': .'pandabear'.}"):
        load_exemplars(sources, {"concept": ["pandabear"]}, "<new1>")
    with pytest.raises(ValueError, match="asks for the field 'colour'"):
        load_exemplars(sources, panda, "{colour} <new1>")
    with pytest.raises(ValueError, match="duplicate ids"):
        load_exemplars(sources[:1] * 2, panda, "<new1>")
    shutil.copy(sources[1][0], tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match="lacks 451 images"):
        load_exemplars([(tmp_path / "captions.json", tmp_path / "images")], panda, "<new1>")
