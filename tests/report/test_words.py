"""What a table of comparisons says in words."""

import pandas as pd
import pytest

from abu.report.words import either, foretold, found_by_abu, standings, told

COMPARED = pd.DataFrame(
    [("all", "a", "b", 0.2, True), ("all", "a", "c", -0.1, True), ("all", "a", "d", 0.01, False)],
    columns=["kind", "method", "other", "difference", "apart"],
)


def test_the_others_stand_where_they_are_told() -> None:
    assert told(COMPARED) == ("b (-0.20)", "c (+0.10)", "d (-0.01)")
    assert told(COMPARED[2:], lambda row: row.other) == ("none", "none", "d")


def test_a_method_stands_at_its_rank() -> None:
    scores = {"method": ["c", "d", "b", "a"], "lds": [0.6, 0.49, 0.3, 0.5], "kind": "all"}
    linear = pd.DataFrame(scores).assign(low=0.1, high=0.9)
    (row,) = standings(linear, COMPARED).to_dict("records")
    assert row["rank"] == "2 of 4" and row["LDS"] == "0.50 (0.10 to 0.90)"
    assert row["worse, told apart"] == "b (-0.20)" and row["better, told apart"] == "c (+0.10)"


def test_a_verdict_stands_beside_its_opposite() -> None:
    yes, no = (either(holds, "Yes.", "No.", "By 3.").data for holds in (True, False))
    assert yes == "**Yes.** By 3. *(Had it gone the other way: No.)*"
    assert no == "**No.** By 3. *(Had it gone the other way: Yes.)*"


def test_the_best_of_each_kind_is_named() -> None:
    rows = [("all", "a", 0.5), ("all", "b", 0.4), ("style", "a", 0.1), ("style", "b", 0.2)]
    linear = pd.DataFrame(rows, columns=["kind", "method", "lds"]).assign(low=0.1, high=0.9)
    judged = {"queries": 6, "pairs": 9, "pairs_compared": 4}
    first, second, last = foretold(linear, judged).splitlines()
    assert first == (
        "Over 6 queries and 9 pairs of halves the highest mean is a 0.50 (0.10 to 0.90)."
    )
    assert second == "By kind: style: b 0.20 (0.10 to 0.90)."
    assert last == "Comparisons are by 4 of these pairs (evaluate.unseen_from)."
    judged["seed_correlation"] = 0.64
    assert "the ceiling is 0.80." in foretold(linear, judged)
    ends = {"ceiling_low": 0.7, "ceiling_high": 0.9}
    assert "the ceiling is 0.80 (0.70 to 0.90)." in foretold(linear, judged | ends)


@pytest.mark.parametrize(
    "random, p, sure",
    [(0.1, 0.01, True), (0.1, 0.2, False), (0.9, 0.01, False), (0.1, float("nan"), False)],
)
def test_exemplars_are_found_where_models_tell_it_from_random(random, p, sure: bool) -> None:
    rows = {"abu": (0.5, 0.4, float("nan")), "random": (random, 0.0, p), "chance": (0.05, 0.05, p)}
    table = pd.DataFrame(rows, index=["mAP", "low", "p"]).T.assign(high=0.6, models=8)
    said = "**AbU finds exemplars better than chance.**"
    assert found_by_abu(table).data.startswith(said) == sure
    assert found_by_abu(table.drop(index="random")).data.startswith(said)
    assert not found_by_abu(table.drop(index="random").assign(low=0.01)).data.startswith(said)
    few = found_by_abu(table.assign(models=2)).data
    assert few.startswith("**2 models are too few to tell.** mAP 0.50, chance 0.05; random scores")
