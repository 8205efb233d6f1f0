"""Queries have names of their own and know which images are right."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from abu.data.queries import as_recorded, name_queries, read_queries, right_images, with_captions
from abu.data.tables import write_table
from abu.diffusion.noise import normals


def test_queries_are_named_and_know_what_is_right(tmp_path) -> None:
    heart = {"a heart": {"style": ["noto", "fluent"], "concept": "heart"}}
    queries = name_queries({"plain": ["skull"], "style": heart, "none": [""]}, {"none": [""]})
    assert queries.tuning.tolist() == [False, False, False, True]
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
        name_queries({"plain": []}, {"plain": ["skull"]})


def test_a_number_stands_for_captions_of_the_data() -> None:
    captions = ["a", "b", "a", "", "c", "d", "e", "f"]
    asked = {"plain": 2, "style": ["x"], "uncaptioned": [""]}, {"plain": 1, "uncaptioned": [""]}
    found = {"plain": ["a", "c"], "style": ["x"], "uncaptioned": [""]}
    assert with_captions(asked, captions) == [found, {"plain": ["e"], "uncaptioned": [""]}]
    listed = {"plain": 2, "style": {"a": {}}}, {"uncaptioned": ["c"]}
    assert with_captions(listed, captions)[0]["plain"] == ["b", "e"]
    assert with_captions([{"plain": ["skull"]}], []) == [{"plain": ["skull"]}]
    assert with_captions([{"plain": 6}], captions)[0]["plain"] == list("abcdef")
    expected = r"prompts ask for {'plain': 7} captions; the images have 6 different ones"
    with pytest.raises(ValueError, match=expected):
        with_captions([{"plain": 7}], captions)
    with pytest.raises(ValueError, match="expected a list of texts for each kind"):
        name_queries(*with_captions([{"plain": True}], captions))


def test_recorded_queries_are_taken_letter_by_letter_where_they_are_drawn_alike(tmp_path) -> None:
    recorded = normals((2, 3, 3), [("z", n) for n in range(3)])
    known = name_queries({"plain": ["skull", "ghost", "007"]})
    write_table(tmp_path / "queries.csv", known)
    np.save(tmp_path / "latents.npy", recorded.numpy())
    asked = name_queries({"plain": ["007", "new", "skull"]})
    drawn = recorded[[2, 1, 0]] * 1.001
    found, which, off = as_recorded(tmp_path, asked, drawn)
    assert which.tolist() == [True, False, True] and off == pytest.approx(1e-3, rel=1e-2)
    assert torch.equal(found[[0, 2]], recorded[[2, 0]]) and torch.equal(found[1], drawn[1])
    with pytest.raises(ValueError, match="latents.npy: the picture of 'skull', drawn again, is 5"):
        as_recorded(tmp_path, asked, torch.stack([*drawn[:2], recorded[0] * 1.05]))
    assert as_recorded(tmp_path, asked[1:2].reset_index(), drawn[1:2])[1:] == ([False], 0.0)
