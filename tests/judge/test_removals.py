"""What is left out."""

import numpy as np

from abu.judge.removals import Removal, leave_k_out, top_of_all


def test_equal_removals_are_one_task() -> None:
    ids = [30, 10, 20, 50, 40]
    scores = np.array([[5, 4, 3, 2, 1], [1, 2, 3, 4, 5.0]])
    assert top_of_all(scores, ids, 2) == (10, 30, 40, 50)
    name = lambda seed, *removed: Removal("abu", 2, 0, seed, removed).name
    assert name(1, 10, 30) == Removal("random", 9, 3, 1, (30, 10)).name
    assert name(1, 10, 30) != name(2, 10, 30)
    methods = {"abu": scores, "same": scores * 2, "pixel": -scores}
    plan = leave_k_out(methods, ids, {"g": [0]}, [1, 2], [0, 1], 2, 0)
    assert len(plan) == 2 * 2 * (3 + 2)
    assert len({r.name for r in plan if r.method in ("abu", "same")}) == 4
    assert all(len(r.removed) == r.k for r in plan)  # one query: random sets are as large
    random = [r.removed for r in plan if r.method == "random" and r.k == 2]
    assert random[:2] == random[2:]  # paired by seed
