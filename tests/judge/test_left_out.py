"""Leave-K-out of a few models, on a case done by hand."""

import numpy as np
import pandas as pd
import pytest
from small_bank import HALVES, LATENTS, NAMES, Recorded

from abu.diffusion.noise import stream
from abu.judge.lds import predicted
from abu.judge.left_out import left_out_of, pictures_by_halves, pictures_without, strayed
from abu.judge.sharpen import sharpen
from abu.judge.verdict import Verdict, verdict_of

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
    assert list(found.by_k) == [1, 2]
    assert found.by_k[2].loss.to_dict() == {"abu": 1.5, "pixel": 0.375}
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
    found = pictures_without(models, QUERIES, pictures, seed=0, k=2, groups={})
    assert {name: drawn.ravel().tolist() for name, drawn in found.items()} == {
        "nothing removed, another seed": [3, 4, 5],
        "without abu": [6, 16, 8],  # query 7 was removed alone
        "without pixel": [9, 10, 11],
    }
    assert pictures_without(models[:1], QUERIES, pictures, 0, 2, {}) == {}


def test_pictures_are_those_of_the_group_of_a_querys_kind() -> None:
    rows = [("abu", 2, 0, 0, "first"), ("abu", 2, 0, 0, "rest")]
    models = pd.DataFrame(rows, columns=["method", "k", "draw", "seed", "group"])
    pictures = np.arange(6).reshape(-1, 3, 1, 1, 1)  # 3 x model + query
    kinds = list(dict.fromkeys(QUERIES["kind"]))
    groups = {"first": kinds[:1], "rest": kinds[1:]}
    found = pictures_without(models, QUERIES, pictures, 0, 2, groups)["without abu"]
    expected = [3 * (kind != kinds[0]) + q for q, kind in enumerate(QUERIES["kind"])]
    assert found.ravel().tolist() == expected and len(set(QUERIES["kind"])) > 1


def test_pictures_stray_by_pixels_and_by_what_is_seen_in_them() -> None:
    pictures = stream("stray").random((3, 2, 3, 4, 4), dtype=np.float32)
    seen = lambda pixels: pixels.mean((2, 3))
    found = strayed(pictures, 1, seen)
    for model, query in np.ndindex(3, 2):
        now, own = pictures[model, query], pictures[1, query]
        assert found["mse"][model, query] == pytest.approx(np.mean((now - own) ** 2))
        a, b = now.mean((1, 2)), own.mean((1, 2))
        near = a @ b / np.sqrt((a @ a) * (b @ b))
        assert found["clip"][model, query] == pytest.approx(near, rel=1e-5)


class Drawing(Recorded):
    """A bank whose halves draw what tells them: 2 pair + side, of each query."""

    def drawn(self, name: str) -> np.ndarray:
        half = name.removeprefix("seed-1-pair-")
        return np.full((6, 3, 2, 2), 2 * int(half[:3]) + (half[3:] == "b"), np.uint8)


def test_pictures_of_halves_stand_where_the_bank_was_asked() -> None:
    scores, own = stream("scores").standard_normal((3, 10)), np.full((3, 3, 4, 4), 0.5, np.float32)
    verdict = verdict_of(Drawing(), NAMES, LATENTS, False)
    views = pictures_by_halves(Drawing(), verdict, scores, 2.0, own)
    for query in (0, 2):  # the other was never asked
        told = predicted(sharpen(scores[[query]], 2.0), HALVES[verdict.pairs])[0]
        pair = int(np.abs(told).argmax())
        for side, view in zip((told[pair] > 0, told[pair] <= 0), views):
            assert view.shape == own.shape and view.dtype == np.float32
            assert view[query] == pytest.approx((2 * verdict.pairs[pair] + side) / 255)
    assert all((view[1] == 0.5).all() for view in views) and (own == 0.5).all()
    odd = pictures_by_halves(Drawing(), verdict, scores, 2.0, own[..., :3, :3])
    assert all(np.array_equal(o, v[..., :3, :3]) for o, v in zip(odd, views)), "one colour each"
    empty = np.zeros(0)
    with pytest.raises(ValueError, match="the bank has no pair of halves"):
        pictures_by_halves(Drawing(), Verdict(empty, empty, empty, empty, [], None), scores, 1, own)
