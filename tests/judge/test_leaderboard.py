"""The leaderboard of a small bank: its parts are those of the functions that it calls."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_bank import DIFFERENCES, HALVES, LATENTS, NAMES, Recorded

from abu.diffusion.noise import stream
from abu.judge.lds import compare, lds
from abu.judge.leaderboard import Named, files_of, leaderboard_of
from abu.judge.sharpen import sharpen
from abu.judge.verdict import seeds_agree

QUERIES = pd.DataFrame({"name": NAMES, "kind": ["style", "plain", "plain"]})
SCORES = {name: stream("scores", name).standard_normal((3, 10)) for name in ("ours", "random")}
NAMED = {"all": {"ours": ["random"]}, "style": {"ours": ["random", "absent"]}}
PAIRS = [0, 1, 3, 4, 6, 7]  # that report
GIVEN = HALVES[PAIRS], DIFFERENCES[1][PAIRS][:, [5, 0]]


def board(bank: Recorded, queries: pd.DataFrame = QUERIES, unseen_from: int = 0):
    named = Named(NAMED, unseen_from)
    return leaderboard_of(bank, queries, LATENTS, SCORES, {"ours": 0.5}, named)


def test_it_judges_known_queries_by_pairs_that_report_sharpened_and_as_they_are() -> None:
    found = board(Recorded())
    known = {name: values[[0, 2]] for name, values in SCORES.items()}
    sharp = known | {"ours": sharpen(known["ours"], 0.5)}
    rows = found.table[found.table.kind == "all"].set_index("method")
    for name in SCORES:
        assert rows.lds[name] == pytest.approx(lds(sharp[name], *GIVEN).mean())
        assert rows.raw[name] == pytest.approx(lds(known[name], *GIVEN).mean())
    assert found.verdict.known.tolist() == [True, False, True] and found.metrics["queries"] == 2
    assert found.compared.equals(compare(sharp, *GIVEN, ["style", "plain"], NAMED))
    r, pairs = seeds_agree(Recorded(), NAMES, LATENTS)
    assert found.ceiling["all"] == max(r.mean(), 0) ** 0.5 and found.metrics["seed_pairs"] == pairs
    shown = found.shown()
    assert shown["all"].is_monotonic_decreasing and set(shown.index) == set(SCORES)
    assert np.allclose(shown["share of ceiling"] * found.ceiling["all"], shown["all"])


def test_comparisons_are_by_pairs_that_nobody_had_looked_at() -> None:
    every, later, none = (board(Recorded(), unseen_from=first) for first in (0, 3, 5))
    assert later.table.equals(every.table) and later.unseen.pairs == [3, 4, 6, 7]
    given = HALVES[later.unseen.pairs], DIFFERENCES[1][later.unseen.pairs][:, [5, 0]]
    known = {name: values[[0, 2]] for name, values in SCORES.items()}
    sharp = known | {"ours": sharpen(known["ours"], 0.5)}
    assert later.compared.equals(compare(sharp, *given, ["style", "plain"], NAMED))
    assert [b.metrics["pairs_compared"] for b in (every, later, none)] == [6, 4, 2]
    assert not len(none.compared)


def test_the_ceiling_has_an_interval_over_pairs_and_queries() -> None:
    metrics = board(Recorded()).metrics
    assert metrics["ceiling_low"] <= metrics["ceiling"]["all"] <= metrics["ceiling_high"] <= 1
    assert metrics["ceiling_low"] < metrics["ceiling_high"]


def test_too_few_pairs_have_no_ceiling_and_no_known_query_no_leaderboard() -> None:
    found = board(Recorded(both=2))
    assert not found.ceiling and "share of ceiling" not in found.shown()
    assert "seed_correlation" not in found.metrics
    assert board(Recorded(), QUERIES.assign(name="q4")) is None
    assert np.isfinite(found.table.drop(columns=["method", "kind"]).to_numpy(float)).all()


def test_files_have_the_same_columns_with_and_without_a_bank() -> None:
    tables, none = files_of(board(Recorded())), files_of(None)
    assert {name: [*table] for name, table in none.items()} == {
        name: [*table] for name, table in tables.items()
    }
    assert not any(map(len, none.values()))
    assert tables["lds"].lds.tolist() == [round(x, 4) for x in board(Recorded()).table.lds]


@pytest.mark.parametrize(
    "chance, best, power",
    [((-0.1, 0.1), 0.2, True), ((-0.1, 0.3), 0.2, False), ((0.01, 0.1), 0.2, False)],
)
def test_power_is_an_interval_of_chance_around_0_and_below_the_best(chance, best, power) -> None:
    rows = [("random", "all", 0.0, *chance), ("ours", "all", 0.5, best, 0.9)]
    rows += [("other", "all", 0.4, 0.0, 0.9), ("random", "style", 0.9, 0.8, 1.0)]
    table = pd.DataFrame(rows, columns=["method", "kind", "lds", "low", "high"])
    found = replace(board(Recorded()), table=table)
    assert found.has_power() is power and found.has_power("absent") is None
    assert found.over_all().index.tolist() == ["ours", "other", "random"]
