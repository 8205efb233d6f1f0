"""Forms in which captions are published, and what is refused of them by the record's name."""

import csv
import json
from pathlib import Path

import pytest
from helpers import coco_content
from PIL import Image

from abu.data.captions import Captioned, load_captions, load_exemplars, seen_in

KARPATHY = [
    ("train2014", "a.jpg", 57870, "train", ["A cat.", "0"]),
    ("val2014", "b.jpg", 9, "restval", ["Two\u2028dogs."]),
    ("val2014", "c.jpg", 8, "test", ["NA"]),
]


def pictures(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(folder / name)
    return folder


def shown(records: list[Captioned], folder: Path) -> list[tuple]:
    return [(r.id, str(r.path.relative_to(folder)), r.captions, r.fields) for r in records]


def coco(folder: Path, content: dict | None = None, **options) -> list[Captioned]:
    """What is read of two pictures, the second with two captions."""
    pictures(folder, "1.png", "3.png")
    (folder / "captions.json").write_text(json.dumps(content or coco_content()))
    return load_captions(folder / "captions.json", folder, **options)


def test_karpathys_splits(tmp_path) -> None:
    images = [
        {
            "filepath": folder,
            "sentids": [1, 2],
            "filename": name,
            "imgid": number,
            "split": split,
            "sentences": [{"tokens": raw.split(), "raw": raw, "imgid": number} for raw in captions],
            "cocoid": id,
        }
        for number, (folder, name, id, split, captions) in enumerate(KARPATHY)
    ]
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))
    pictures(tmp_path, *(f"{folder}/{name}" for folder, name, *_ in KARPATHY))
    found = load_captions(path, tmp_path, {"split": ["train", "restval"]})
    assert [(r.id, r.path, r.captions) for r in found] == [
        (id, tmp_path / folder / name, tuple(captions))
        for folder, name, id, _, captions in KARPATHY[:2]
    ]
    assert found[0].fields == {
        "filepath": "train2014",
        "imgid": 0,
        "split": "train",
        "cocoid": 57870,
    }
    for image in images:  # as of Flickr30k
        del image["cocoid"], image["filepath"]
    path.write_text(json.dumps({"images": images}))
    found = load_captions(path, pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg"))
    assert [(r.id, r.path.name) for r in found] == [(0, "a.jpg"), (1, "b.jpg"), (2, "c.jpg")]
    images[1]["sentences"][0]["raw"] = 5
    path.write_text(json.dumps({"images": images}))
    with pytest.raises(ValueError, match="image 1 has the caption 5; expected a text"):
        load_captions(path, tmp_path)


def test_a_folder_with_metadata_in_json_lines(tmp_path) -> None:
    pictures(tmp_path, "a.png", "sub/b.png", "c.png")
    rows = [
        {"file_name": "a.png", "text": "007", "year": 2014},
        {"file_name": "sub/b.png", "text": ["one", "two\rlines"], "year": 2015},
        {"file_name": "a.png", "text": "seven", "year": 2014},
        {"file_name": "c.png", "text": "", "year": 2014},
    ]
    path = tmp_path / "metadata.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert shown(load_captions(path, tmp_path), tmp_path) == [
        (0, "a.png", ("007", "seven"), {"year": 2014}),
        (1, "sub/b.png", ("one", "two\rlines"), {"year": 2015}),
        (3, "c.png", ("",), {"year": 2014}),
    ]
    kept = load_captions(path, tmp_path, {"year": [2015]})
    assert [r.id for r in kept] == [1]


def test_a_folder_with_metadata_in_csv(tmp_path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    rows = [("a.png", "007", "true"), ("b.png", 'NA, "so"\r\nit is', ""), ("c.png", "None", "1.0")]
    path = tmp_path / "metadata.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("file_name", "caption", "id"), *rows])
    assert shown(load_captions(path, tmp_path), tmp_path) == [
        (number, file, (caption,), {"id": id}) for number, (file, caption, id) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    "name, content, error",
    [
        ("m.jsonl", '{"file_name": "a.png", "text": null}', "row 0 has the caption None"),
        ("m.jsonl", '{"file_name": "a.png", "text": ["b", 3]}', "row 0 has the caption 3"),
        ("m.jsonl", '{"file_name": "a.png", "text": "\\ud800"}', "row 0 .* is no Unicode"),
        ("m.jsonl", '{"text": "b"}', "row 0 has .'text'.; expected file_name, and text or caption"),
        ("m.jsonl", '{"file_name": "a", "text": "b", "caption": "c"}', "expected file_name, and"),
        ("m.jsonl", '{"file_name": "a.png", "label": 1}', "has no column text or caption"),
        ("m.jsonl", "{", "m.jsonl is not the metadata of a folder: expected rows with file_name"),
        ("m.jsonl", "[1]", "m.jsonl is not the metadata of a folder.*AttributeError"),
        (
            "m.jsonl",
            '{"file_name": "a", "text": "b", "k": 1}\n{"file_name": "a", "text": "c", "k": 2}',
            "row 1 and row 0 differ on a: .*2}, .*1}",
        ),
        ("m.csv", "file_name,text\na.png\n", "row 0 has not as many cells as the header"),
        ("m.csv", "file_name,text\na.png,b,c\n", "row 0 has not as many cells as the header"),
        ("m.csv", "picture,text\na.png,b\n", "row 0 has .'picture', 'text'.; expected file_name"),
        ("m.csv", 'file_name,text\na.png,"b', "m.csv is not the metadata of a folder"),
        ("00000.tar", "", "00000.tar is packed, as WebDataset's shards are; unpack it, and list"),
        ("m.json", '{"images": [{"id": 1}], "annotations": []}', "not a COCO captions file"),
        ("m.json", "\xff", "not a COCO captions file"),
    ],
)
def test_forms_that_are_refused(tmp_path, name: str, content: str, error: str) -> None:
    (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=error):
        load_captions(tmp_path / name, tmp_path)


@pytest.mark.parametrize("caption", [None, 7, True, ["a"], {}])
def test_a_caption_that_is_no_text_is_refused_by_name(tmp_path, caption) -> None:
    content = coco_content()
    content["annotations"][1]["caption"] = caption
    with pytest.raises(
        ValueError, match="annotation 1 of image 3 has the caption .* expected a text"
    ):
        coco(tmp_path, content)
    del content["annotations"][1]["id"]
    with pytest.raises(ValueError, match="annotation number 1 of image 3 has the caption"):
        coco(tmp_path, content)


def test_images_without_a_caption_are_refused_or_dropped(tmp_path, capsys) -> None:
    content = coco_content()
    content["annotations"].pop(1)
    with pytest.raises(ValueError, match=r"no caption for images \[3\], 1 of 2"):
        coco(tmp_path, content)
    assert [r.id for r in coco(tmp_path, content, uncaptioned="drop")] == [1]
    assert "1 of 2 images have no caption and are left out: [3]" in capsys.readouterr().out
    assert [r.id for r in coco(tmp_path, uncaptioned="drop")] == [3, 1]
    assert not capsys.readouterr().out
    content["annotations"] = []
    with pytest.raises(ValueError, match=r"no caption for images \[3, 1\], 2 of 2"):
        coco(tmp_path, content, uncaptioned="drop")
    with pytest.raises(ValueError, match="uncaptioned is 'keep'; expected refuse or drop"):
        coco(tmp_path, uncaptioned="keep")


def test_an_empty_cell_is_no_caption(tmp_path) -> None:
    (file := tmp_path / "metadata.csv").write_text("file_name,text\na.png,one\nb.png,\n")
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"no caption for images \[1\], 1 of 2"):
        load_captions(file, tmp_path)


def test_the_first_captions_of_each_are_taken_and_the_others_counted(tmp_path, capsys) -> None:
    assert [r.captions for r in coco(tmp_path, captions=1)] == [("c1",), ("c0",)]
    said = "1 captions are left out: of an image those after the first 1"
    assert said in capsys.readouterr().out
    assert [r.captions for r in coco(tmp_path, captions=2)] == [("c1",), ("c0", "c2")]
    assert not capsys.readouterr().out
    with pytest.raises(ValueError, match="captions is 0; expected 1 or more"):
        coco(tmp_path, captions=0)


def test_ids_of_exemplars_are_names_within_their_file(tmp_path) -> None:
    sources = []
    for name in ("one", "two"):
        coco(tmp_path / name)
        sources.append((tmp_path / name / "captions.json", tmp_path / name))
    free = load_exemplars(sources[:1], {}, "<new1>", taken=[7, 8])
    assert [r.id for r in free] == [3, 1]
    first, second = load_exemplars(sources[:1], {}, "<new1>", taken=[3, 8])
    assert second.id == 1 and first.id not in (1, 3, 8) and 0 < first.id < 2**48
    every = load_exemplars(sources, {}, "<new1>", taken=[3])
    assert len({r.id for r in every} | {3}) == 5 and every[0] == first
    assert [r.path.parent.name for r in every] == ["one", "one", "two", "two"]
    assert every[2:] != load_exemplars(sources[1:], {}, "<new1>")
    content = coco_content()
    content["images"][1]["kind"] = "c"
    sources[1][0].write_text(json.dumps(content))
    [other] = load_exemplars(sources, {"kind": ["c"]}, "<new1>", taken=[3])
    assert other.id == every[3].id, "in every model the same"


def test_a_picture_that_was_trained_on_is_known_by_its_file(tmp_path) -> None:
    records = coco(tmp_path / "data")
    other = pictures(tmp_path / "other", "1.png") / "1.png"
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert seen_in(records, [str(other)]) == []
    assert seen_in(records, [str(tmp_path / "link/1.png")]) == [str(tmp_path / "data/1.png")]
