"""Captions and fields of records come through every table letter by letter."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from abu.data.captions import Captioned
from abu.data.prepared import Prepared, describe
from abu.data.queries import name_queries, read_queries, right_images
from abu.data.tables import read_table, write_table

TEXTS = ["0", "007", "1e5", "1.0", "NA", "N/A", "nan", "None", "null", "", " ", "true", "False"]
TEXTS += [
    "a\rb",
    "a\nb",
    "a\r\nb",
    "\r",
    "a\u2028b\u2029",
    "a\x85b",
    "a\x0bb\x1cc",
    'q"u,o;te',
    "ünï 日本",
]
TEXTS += ["2020-01-01", "\ufeffx", "#x", "=1+1", "'", "\\n", "a\0b"]


def prepared(folder: Path, records: list[Captioned]) -> Prepared:
    """What ``prepare`` leaves, but for its numbers."""
    for name in ("latents", "texts"):
        np.save(folder / f"{name}.npy", np.zeros((len(records), 1, 2, 2), np.float32))
    np.save(folder / "empty.npy", np.zeros((2, 2), np.float32))
    describe(records, folder, side=8, captions=1, token_states="float32")
    return Prepared(folder)


@pytest.mark.parametrize("texts", [TEXTS, [t for t in TEXTS if "\r" not in t], TEXTS[:2]])
def test_texts_come_back_as_they_were(tmp_path, texts: list[str]) -> None:
    table = pd.DataFrame({"id": range(len(texts)), "caption": texts, "score": 0.5})
    write_table(tmp_path / "a.csv", table)
    assert read_table(tmp_path / "a.csv").caption.tolist() == texts
    mixed = read_table(tmp_path / "a.csv", ["caption"])
    assert mixed.caption.tolist() == texts and mixed.score.tolist() == [0.5] * len(texts)


def test_captions_come_through_the_table_of_images(tmp_path) -> None:
    records = [
        Captioned(
            i, Path(f"{i}.png"), (text, "other"), {"code": text, "n": i, "x": i / 4, "m": None}
        )
        for i, text in enumerate(TEXTS)
    ]
    images = prepared(tmp_path, records).images
    assert images.caption.tolist() == images.code.tolist() == TEXTS
    assert images.id.tolist() == images.n.tolist() == list(range(len(TEXTS)))
    assert images.x.tolist() == [i / 4 for i in range(len(TEXTS))]
    assert set(images.m) == {""}


def test_prompts_come_through_the_table_of_queries_and_find_their_images(tmp_path) -> None:
    queries = name_queries({"007": TEXTS})
    write_table(tmp_path / "queries.csv", queries.assign(loss=0.25))
    found = read_queries(tmp_path / "queries.csv")
    pd.testing.assert_frame_equal(found.drop(columns="loss"), queries)
    assert found.loss.tolist() == [0.25] * len(TEXTS)
    records = [Captioned(i, Path("a"), (text,), {}) for i, text in enumerate(TEXTS)]
    right = right_images(found, prepared(tmp_path, records).images)
    np.testing.assert_array_equal(right, np.eye(len(TEXTS), dtype=bool))


def test_fields_called_as_our_columns_replace_none(tmp_path) -> None:
    fields = {
        "id": "q",
        "file": "theirs",
        "caption": "theirs",
        "captions": ["theirs"],
        "exemplar": 1,
        "image_id": 5,
        "path": "p",
    }
    table = prepared(tmp_path, [Captioned(4, Path("ours.png"), ("ours",), fields)]).images
    [row] = table.to_dict("records")
    assert row == {
        "id": 4,
        "file": "ours.png",
        "caption": "ours",
        "captions": '["ours"]',
        "record.id": "q",
        "record.file": "theirs",
        "record.caption": "theirs",
        "record.captions": "['theirs']",
        "record.exemplar": 1,
        "image_id": 5,
        "path": "p",
    }


@pytest.mark.parametrize("content", ["id,file,caption\n1,a,b\n", "file\na\n", "id,file\n4,a\n"])
def test_a_table_of_other_images_or_without_their_fields_is_refused(tmp_path, content: str) -> None:
    prepared(tmp_path, [Captioned(4, Path("a"), ("c",), {"width": 8})])
    (tmp_path / "images.csv").write_text(content)
    with pytest.raises(ValueError, match="list different images"):
        Prepared(tmp_path)


def test_right_images_by_numbers_truth_and_their_texts(tmp_path) -> None:
    records = [
        Captioned(i, Path("a"), ("c",), {"n": n, "x": x, "yes": yes, "mixed": mixed})
        for i, (n, x, yes, mixed) in enumerate([(1, 2.0, True, "7"), (2, 2.5, False, 7)])
    ]
    images = prepared(tmp_path, records).images

    def right(where: dict) -> list[bool]:
        return right_images(pd.DataFrame({"where": [json.dumps(where)]}), images)[0].tolist()

    assert right({"n": 1}) == right({"n": "1"}) == right({"x": 2}) == right({"yes": True})
    assert right({"n": 1}) == [True, False] and right({"yes": [True, False]}) == [True, True]
    assert right({"mixed": 7}) == [True, True] and right({"n": 3}) == [False, False]
    marked = images.assign(exemplar=[False, True])
    assert right_images(pd.DataFrame({"where": ['{"exemplar": true}']}), marked)[0].tolist() == [
        False,
        True,
    ]
