"""Leave-K-out of a few models, on a case done by hand."""

import numpy as np
import pandas as pd
import pytest

from abu.judge.left_out import left_out_of, pictures_without

QUERIES = pd.DataFrame({"query": [4, 7, 9], "kind": ["plain", "plain", "style"]})
MODELS = [  # method, k, draw, seed, group
    ("none", 0, 0, 0, ""),
    ("none", 0, 0, 1, ""),
    ("abu", 2, 0, 0, "all"),
    ("pixel", 2, 0, 0, "all"),
    ("abu", 1, 0, 0, "all"),
]
LOSSES = np.array([[1, 1, 1], [2, 2, 3], [2, 3, 9], [1.5, 1.25, 9], [1.5, 1.5, 9]])


def test_each_removal_counts_where_it_was_meant() -> None:
    models = pd.DataFrame(MODELS, columns=["method", "k", "draw", "seed", "group"])
    models["images"] = models.k
    given = models, QUERIES, {"loss": LOSSES}, 0
    found = left_out_of(*given, {"all": ["plain"]})
    assert not (found.deviations.kind == "style").any(), "no removal was for styles"
    assert list(found.found) == [1, 2]
    assert found.found[2].loss.to_dict() == {"abu": 1.5, "pixel": 0.375}
    assert found.by_kind.loss.to_dict() == {("plain", "abu"): 1.5, ("plain", "pixel"): 0.375}
    assert found.table.index.tolist()[0] == (1, "abu")
    metrics = found.metrics
    assert metrics["k=2"]["abu"]["loss"] == 1.5 and not any("raw" in m for m in metrics["k=2"])


def test_another_seed_is_the_floor_and_nothing_asked_is_nothing_found() -> None:
    models = pd.DataFrame(MODELS[:2], columns=["method", "k", "draw", "seed", "group"])
    models[["images", "group"]] = 0, "every query"
    found = left_out_of(models, QUERIES, {"loss": LOSSES[:2]}, 0, {})
    assert found.floor.to_dict() == pytest.approx({"raw_loss": 4 / 3})
    assert not len(found.table)
    assert list(found.metrics) == ["floor"] and found.table.index.names == ["k", "method"]


def test_pictures_are_those_of_a_querys_own_removal_where_there_is_one() -> None:
    rows = [*MODELS, ("abu", 2, 0, 0, "query 7")]
    models = pd.DataFrame(rows, columns=["method", "k", "draw", "seed", "group"])
    pictures = np.arange(len(models) * 3).reshape(-1, 3, 1, 1, 1)  # 3 x model + query
    found = pictures_without(models, QUERIES["query"].tolist(), pictures, seed=0, k=2)
    assert {name: drawn.ravel().tolist() for name, drawn in found.items()} == {
        "nothing removed, another seed": [3, 4, 5],
        "without abu": [6, 16, 8],  # query 7 was removed alone
        "without pixel": [9, 10, 11],
    }
    assert pictures_without(models[:1], QUERIES["query"].tolist(), pictures, 0, 2) == {}
