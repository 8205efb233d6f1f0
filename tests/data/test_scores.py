"""Scores of many methods in one file."""

import numpy as np
import pandas as pd
import pytest

from abu.data.scores import each_method, methods_in, read_scores, write_scores
from abu.diffusion.noise import stream

QUERIES, IMAGES = [5, 4], [7, 9, 8]


def test_scores_of_many_methods_come_back_one_by_one(tmp_path) -> None:
    scores = {name: stream("scores", name).random((2, 3)) for name in ("b", "a")}
    path, one = tmp_path / "all.parquet", tmp_path / "one.parquet"
    write_scores(path, scores, QUERIES, IMAGES)
    assert methods_in(path) == ["b", "a"]
    for name, values in scores.items():
        again = read_scores(path, [4, 5], [9, 8, 7], name)
        assert np.array_equal(again, values[::-1][:, [1, 2, 0]])
    table = pd.read_parquet(path).query("method == 'a'").drop(columns="method")
    table.to_parquet(one)
    assert np.array_equal(read_scores(one, QUERIES, IMAGES), scores["a"])
    with pytest.raises(KeyError, match="no scores of 'c'; expected one of .'b', 'a'."):
        read_scores(path, QUERIES, IMAGES, "c")
    for queries, ids in (([6], [7]), ([5], [1])):
        with pytest.raises(KeyError, match="not in index|are in the"):
            read_scores(path, queries, ids, "a")
    assert [(method, len(rows)) for method, rows in each_method(path)] == [("b", 6), ("a", 6)]
    table.iloc[1:].to_parquet(one)
    with pytest.raises(ValueError, match="lacks 1 of 6 scores"):
        read_scores(one, QUERIES, IMAGES)
    scores["c"] = np.zeros((2, 2))
    with pytest.raises(ValueError):
        write_scores(tmp_path / "torn.parquet", scores, QUERIES, IMAGES)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["all.parquet", "one.parquet"]
