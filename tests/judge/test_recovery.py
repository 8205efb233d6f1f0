"""How well rankings put exemplars on top, on a case done by hand."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from abu.diffusion.noise import stream
from abu.judge.intervals import holm
from abu.judge.ranking import average_precision
from abu.judge.recovery import best, measure, summaries, summarize
from abu.report.words import beside_abu

IDS = [30, 10, 20, 40]


def scores_of(method: str, values: list[list[float]]) -> pd.DataFrame:
    rows = [(method, q, id, s) for q, row in enumerate(values) for id, s in zip(IDS, row)]
    return pd.DataFrame(rows, columns=["method", "query", "image_id", "score"])


ABU = scores_of("abu", [[4.0, 3, 2, 1], [1, 2, 3, 4]])
PIXEL = scores_of("pixel", [[4.0, 1, 3, 2], [1, 2, 4, 3]])


def test_recovery_on_a_case_done_by_hand() -> None:
    rows, ranks = measure([ABU, PIXEL], exemplars=[10, 20], k=2)
    by = rows.set_index(["method", "query"])
    assert by.precision["abu"].tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2] * 2)
    pixel = [(1 / 2 + 2 / 4) / 2, (1 + 2 / 3) / 2]
    assert by.precision["pixel"].tolist() == pytest.approx(pixel)
    assert by.recall["abu"].tolist() == [0.5, 0.5] and by.recall["pixel"].tolist() == [0.5, 0.5]
    orders = list(permutations([False, True, True, False]))
    drawn = np.mean([average_precision(-np.arange(4.0), np.array(order)) for order in orders])
    assert by.precision["chance"].tolist() == pytest.approx([drawn] * 2) and set(rows.images) == {4}
    assert ranks.tolist() == [[2, 3], [2, 3], [2, 4], [1, 3]]
    again = measure([pd.concat([ABU, PIXEL])], [10, 20], 2)
    pd.testing.assert_frame_equal(again[0], rows)
    assert np.array_equal(again[1], ranks)
    table = summarize(rows.assign(model="m", category="object"))
    assert table.drop(index="chance").index[0] == "pixel" and table.mAP["abu"] == pytest.approx(
        7 / 12
    )
    assert np.isnan(table.p["abu"])
    assert table.low["pixel"] <= table.mAP["pixel"] <= table.high["pixel"]
    assert "Not told apart: pixel" in beside_abu(table.fillna({"p": 1.0}))
    assert beside_abu(table) == "Of one model: it says nothing of others."
    first, top = best(ABU, [1, 0], 2)
    assert first.tolist() == [[40, 20], [30, 10]] and top.tolist() == [[4, 3], [4, 3]]


def test_scores_that_are_not_of_all_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"exemplars \[99\] were not scored"):
        measure([ABU, PIXEL], [10, 99], 2)
    with pytest.raises(ValueError, match="1 of 2 rankings lack images"):
        measure([ABU.iloc[1:]], [10], 2)
    with pytest.raises(ValueError, match=r"methods rank \[3, 4\] images; expected all the same"):
        measure([ABU.query("image_id != 40"), PIXEL], [10], 2)


def test_intervals_are_over_models_and_their_queries() -> None:
    """Ten queries of one model say less than ten models."""
    good, bad = stream("good").random(20) * 0.1 + 0.8, stream("bad").random(20) * 0.1 + 0.2
    values = np.where(np.arange(20) < 10, good, bad)
    rows = pd.DataFrame(
        {"query": range(20), "method": "abu", "precision": values, "recall": values}
    )
    each, two = rows.assign(model=range(20)), rows.assign(model=np.arange(20) // 10)
    width = lambda table: (table.high - table.low)["abu"]
    assert width(summarize(two)) > 2 * width(summarize(each)) > 0
    noise = stream("noise").random((2, 20)) * 0.1
    others = [rows.assign(method=f"m{n}", precision=values - noise[n]) for n in range(2)]
    table = summarize(pd.concat([rows, *others]).assign(model=lambda t: t["query"] // 5))
    alone = [ttest_1samp(each.reshape(4, 5).mean(1), 0).pvalue for each in noise]
    assert sorted(table.p.dropna()) == pytest.approx(sorted(holm(np.array(alone))))
    assert summarize(pd.concat([rows, *others]).assign(model="m")).p.isna().all()


def test_summaries_are_of_all_of_categories_and_of_models() -> None:
    rows, _ = measure([ABU, PIXEL], exemplars=[10, 20], k=2)
    both = [rows.assign(model=model, category="object") for model in "mn"]
    found = summaries(pd.concat(both, ignore_index=True))
    assert list(found) == [("all", "all"), ("category", "object"), ("model", "m"), ("model", "n")]
    pd.testing.assert_frame_equal(found["model", "n"], summarize(both[1]))
