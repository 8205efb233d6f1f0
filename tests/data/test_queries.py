"""Queries have names of their own and know which images are right."""

import json

import pandas as pd
import pytest

from abu.data.queries import name_queries, read_queries, right_images, with_captions


def test_queries_are_named_and_know_what_is_right(tmp_path) -> None:
    heart = {"a heart": {"style": ["noto", "fluent"], "concept": "heart"}}
    queries = name_queries({"plain": ["skull"], "style": heart, "none": ["", ""]})
    assert queries.name.tolist() == ["skull", "a heart", "no caption", "no caption (2)"]
    queries.to_csv(tmp_path / "queries.csv", index=False)
    assert read_queries(tmp_path / "queries.csv").equals(queries)
    assert json.loads(queries["where"][0]) == {"caption": "skull"}
    concepts = ["skull", "heart", "heart"]
    columns = {"caption": concepts, "concept": concepts, "style": ["noto", "noto", "twemoji"]}
    images = pd.DataFrame(columns)
    nothing = [False] * 3
    expected = [[True, False, False], [False, True, False], nothing, nothing]
    assert right_images(queries, images).tolist() == expected
    with pytest.raises(KeyError, match="no field .'style'"):
        right_images(queries, images.drop(columns="style"))
    with pytest.raises(ValueError, match="no query"):
        name_queries({"plain": []})


def test_a_number_stands_for_captions_of_the_data() -> None:
    captions = ["a", "b", "a", "", "c", "d", "e", "f"]
    asked = {"tuning": 1, "plain": 2, "style": ["x"], "uncaptioned": [""]}
    found = with_captions(asked, captions)
    assert found == {"tuning": ["a"], "plain": ["c", "e"], "style": ["x"], "uncaptioned": [""]}
    assert with_captions({"plain": ["skull"]}, []) == {"plain": ["skull"]}
    assert with_captions({"plain": 6}, captions)["plain"] == list("abcdef")
    expected = r"prompts ask for {'plain': 7} captions; the images have 6 different ones"
    with pytest.raises(ValueError, match=expected):
        with_captions({"plain": 7}, captions)
    with pytest.raises(ValueError, match="expected a list of texts for each kind"):
        name_queries(with_captions({"plain": True}, captions))
