"""How well rankings put exemplars on top, on a case done by hand."""

import numpy as np
import pandas as pd
import pytest

from abu.judge.recovery import best, measure, summarize, words

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
    assert by.precision["chance"].tolist() == [0.5, 0.5] and set(rows.images) == {4}
    assert ranks.tolist() == [[2, 3], [2, 3], [2, 4], [1, 3]]
    again = measure([pd.concat([ABU, PIXEL])], [10, 20], 2)
    pd.testing.assert_frame_equal(again[0], rows)
    assert np.array_equal(again[1], ranks)
    table = summarize(rows.assign(model="m", category="object"))
    assert table.index[0] == "pixel" and table.mAP["abu"] == pytest.approx(7 / 12)
    assert np.isnan(table.p["abu"])
    assert table.low["pixel"] <= table.mAP["pixel"] <= table.high["pixel"]
    assert "Not told apart: pixel" in words(table)
    first, top = best(ABU, [1, 0], 2)
    assert first.tolist() == [[40, 20], [30, 10]] and top.tolist() == [[4, 3], [4, 3]]


def test_scores_that_are_not_of_all_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"exemplars \[99\] were not scored"):
        measure([ABU, PIXEL], [10, 99], 2)
    with pytest.raises(ValueError, match="1 of 2 rankings lack images"):
        measure([ABU.iloc[1:]], [10], 2)
    with pytest.raises(ValueError, match=r"methods rank \[3, 4\] images; expected all the same"):
        measure([ABU.query("image_id != 40"), PIXEL], [10], 2)
