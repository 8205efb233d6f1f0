"""What retraining says, on cases done by hand."""

import numpy as np
import pandas as pd
import pytest

from abu.judge.left_out import deviations, summary


def test_deviations_are_paired_by_seed() -> None:
    columns = {"method": ["none", "abu"] * 2, "k": [0, 1] * 2, "draw": 0, "seed": [0, 0, 1, 1]}
    models = pd.DataFrame({**columns, "group": "all", "images": [0, 2, 0, 2]})
    queries = pd.DataFrame({"query": [4, 7], "kind": ["plain", "style"]})
    losses = np.array([[1, 2], [1.5, 2.25], [3, 3], [3.25, 3.75]])
    table = deviations(models, queries, {"loss": losses}, seed=0)
    rows = lambda model: table[table.model == model]
    assert rows(3)[["raw_loss", "loss"]].to_numpy().tolist() == [[2.25, 0.25], [1.75, 0.75]]
    assert rows(1).loss.tolist() == rows(1).raw_loss.tolist() == [0.5, 0.25]
    other = table.assign(method=table.method.replace("abu", "pixel"), loss=table.loss / 2)
    found = summary(pd.concat([table, other]).query("k == 1"))
    assert found.index.tolist() == ["abu", "pixel"]
    assert found.loss["abu"] == pytest.approx(np.mean([0.375, 0.5])) and found.images["abu"] == 2
    assert found.loss_se["abu"] == pytest.approx(np.std([0.375, 0.5], ddof=1) / 2**0.5)
    fewer = summary(pd.concat([table, other[other.seed == 0]]).query("k == 1"))
    # means over the seed that both have
    assert fewer.loss["abu"] == 2 * fewer.loss["pixel"] == pytest.approx(np.mean([0.5, 0.25]))
    assert fewer.seeds["abu"] == 1
    fewer = models.drop(index=2).reset_index(drop=True)
    with pytest.raises(ValueError, match=r"no model without removal for seeds \[1\]"):
        deviations(fewer, queries, {"loss": losses[[0, 1, 3]]}, seed=0)
