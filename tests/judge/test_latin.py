"""Latin squares of removals, against a world where each image's worth to a query is known."""

import numpy as np
import pandas as pd
import pytest

from abu.diffusion.noise import stream
from abu.judge.latin import (
    COLUMNS,
    SQUARE,
    STILL,
    arms_that_say,
    groups_of,
    models_of,
    plan_squares,
    rises,
    still_named,
    summaries,
    summary,
)

IDS, KINDS = list(range(100, 160)), ["plain"] * 8 + ["style"] * 4 + ["uncaptioned"] * 2
METHODS, SQUARES = ("truth", "noisy", "random", "right"), [(3, False), (5, False), (5, True)]
Q, N = len(KINDS), len(IDS)


@pytest.fixture(scope="module")
def world() -> dict:
    """Scores of methods, the worth of images, and which are known to be right."""
    draw = stream(0, "latin world")
    worth = draw.exponential(size=(Q, N)) ** 2
    right = np.zeros((Q, N), bool)
    for q in range(12):  # those with a caption
        right[q, 4 * q : 4 * q + 4] = True
        worth[q, right[q]] += 5
    noisy = worth + 3 * draw.standard_normal((Q, N))
    scores = {"truth": worth, "noisy": noisy, "random": draw.standard_normal((Q, N))}
    scores["right"] = np.where(right, worth, -np.inf)
    return {"scores": scores, "worth": worth, "right": right}


@pytest.fixture(scope="module")
def plan(world) -> pd.DataFrame:
    groups = groups_of(KINDS, 12, 4)
    return plan_squares(world["scores"], IDS, groups, SQUARES, world["right"])


def test_groups_have_all_kinds_in_proportion() -> None:
    groups = groups_of(KINDS, 12, 4)
    chosen = [row for group in groups for row in group]
    assert len(groups) == 3 and len(set(chosen)) == 12
    assert [sum(KINDS[row] == kind for row in chosen) for kind in ("plain", "style")] == [7, 3]
    assert groups == groups_of(KINDS, 12, 4)
    for count, size in ((16, 4), (10, 4)):
        with pytest.raises(ValueError, match=f"{count} queries for Latin squares; expected at mo"):
            groups_of(KINDS, count, size)


def test_each_square_is_latin(plan) -> None:
    for _, rows in plan.groupby(SQUARE):
        assert rows.groupby("model").method.nunique().eq(4).all(), "each method once a model"
        assert rows.groupby(["query", "method"]).size().eq(1).all() and len(rows) == 4 * 4
    assert len(models_of(plan, 3)) == plan.model.nunique() == 3 * 3 * 4
    order = plan[SQUARE].drop_duplicates().values.tolist()
    assert order == [[*square, group] for square in SQUARES for group in range(3)], "all groups"


def test_what_is_removed_is_a_methods_top(plan, world) -> None:
    for row in plan.itertuples():
        own = {IDS[i] for i in np.flatnonzero(world["right"][row.query])}
        assert set(row.also) == (own if row.besides else set())
        values = dict(zip(IDS, world["scores"][row.method][row.query]))
        left = sorted(values.keys() - set(row.also), key=values.get, reverse=True)
        assert row.images == [id for id in left[: row.k] if np.isfinite(values[id])]
    uncaptioned = plan[(plan.method == "right") & plan["query"].isin([12, 13])]
    assert not uncaptioned.images.str.len().any(), "where nothing is known to be right"


def test_a_model_goes_without_what_was_named_for_all_of_its_queries(plan) -> None:
    models = {model.name: model for model in models_of(plan, 3)}
    for name, rows in plan.groupby("model"):
        removed = {id for row in (*rows.images, *rows.also) for id in row}
        assert models[name].removed == tuple(sorted(removed)) and models[name].seed == 3


def answers(plan, world, noise: float = 0.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Losses of a world where removals add up, of every model and query, and without removals."""
    floor = pd.DataFrame({"loss": stream(0, "floor").random(Q)})
    rows, draw = [], stream(0, "answers")
    for model in models_of(plan, 3):
        gone = np.isin(IDS, model.removed)
        loss = floor.loss + world["worth"][:, gone].sum(1) + noise * draw.standard_normal(Q)
        rows += [(model.name, q, loss[q]) for q in range(Q)]
    table = pd.DataFrame(rows, columns=["model", "query", "loss"]).set_index(["model", "query"])
    return table, floor


def test_a_rise_is_what_all_removals_of_the_model_did_to_the_query(plan, world) -> None:
    found = rises(plan, *answers(plan, world))
    models = {model.name: model.removed for model in models_of(plan, 3)}
    assert len(found) == len(plan)
    for row in found.itertuples():
        assert row.loss == pytest.approx(
            world["worth"][row.query, np.isin(IDS, models[row.model])].sum()
        )


def test_an_arm_of_other_scores_is_left_out_of_its_square_alone(plan, world) -> None:
    scores, noisy = world["scores"], world["scores"]["noisy"]
    # the squares of K = 5 were planned by other scores of one method
    swapped = scores | {"noisy": scores["truth"]}
    then = plan_squares(swapped, IDS, groups_of(KINDS, 12, 4), SQUARES, world["right"])
    found = rises(plan, *answers(plan, world))
    found["images"] = found.images.where(found.k == 3, then.images)
    shares = still_named(found, {m: scores[m] for m in METHODS[:3]}, range(Q), IDS)
    same = []
    for row in found[found.besides & (found.method == "noisy")].itertuples():
        order = [IDS[i] for i in np.argsort(-noisy[row.query]) if IDS[i] not in row.also]
        same.append(len(set(order[:5]) & set(row.images)) / 5)
    moved = {(5, False, "noisy"), (5, True, "noisy")}
    assert shares[(5, True, "noisy")] == pytest.approx(np.mean(same)) and np.mean(same) < STILL
    assert len(shares) == 9 and shares.drop(list(moved)).eq(1).all()
    rest, without = arms_that_say(found, shares, "random")
    assert set(without.index) == moved
    assert rest.groupby(SQUARE[:2]).method.nunique().tolist() == [4, 3, 3]
    assert rest.equals(found[(found.k == 3) | (found.method != "noisy")])
    assert arms_that_say(found, shares, "noisy")[0].equals(found[found.k == 3])


def test_squares_that_are_not_whole_are_left_out(plan, world) -> None:
    measured, floor = answers(plan, world)
    there = measured.drop(index=plan.model.iloc[0], level="model")
    found = rises(plan, there, floor)
    first = plan[SQUARE].iloc[0].tolist()
    assert len(found) == len(plan) - 16 and first not in found[SQUARE].values.tolist()


def test_the_better_method_does_more_harm_and_is_told_apart(plan, world) -> None:
    found = rises(plan, *answers(plan, world, 0.1))
    table = summary(found, "random")
    for square in SQUARES:
        part = table.loc[square]
        assert part.rise.is_monotonic_decreasing and part.index[0] == "truth"
        assert part.p_holm["truth"] < 0.01 and np.isnan(part.p_holm["random"])
        assert (part.low <= part.rise).all() and (part.rise <= part.high).all()
        assert (part.over["random"], part.times["random"]) == pytest.approx((0, 1))
        assert part["queries"].eq(12).all() and part.images["truth"] == square[0]
    one = found[(found.k == 3) & (found.method == "noisy")].loss.mean()
    assert table.rise[(3, False, "noisy")] == pytest.approx(one)
    # the concept's own images gone in every arm, knowing them says nothing
    assert table.images[(5, True, "right")] == 0


def test_summaries_compare_all_queries_and_show_each_kind(plan, world) -> None:
    found = rises(plan, *answers(plan, world, 0.1)).assign(mse=lambda rows: -rows.loss)
    table = summaries(found, dict(enumerate(KINDS)), "random")
    assert table.columns.tolist() == COLUMNS
    assert set(zip(table.measure, table.kind)) == {
        *(("loss", kind) for kind in ("all", "plain", "style", "uncaptioned")),
        ("mse", "all"),
    }
    over_all = table[(table.measure == "loss") & (table.kind == "all")]
    pd.testing.assert_frame_equal(
        over_all.set_index([*SQUARE[:2], "method"]).drop(columns=["measure", "kind"]),
        summary(found, "random"),
    )
    style = table[(table.kind == "style") & (table.method == "noisy")].set_index("k")
    asked = found[found["query"].map(lambda q: KINDS[q] == "style")]
    one = asked[(asked.k == 3) & (asked.method == "noisy")].loss
    assert style.rise[3] == pytest.approx(one.mean()) and style["queries"][3] == len(one)
    assert style.p.isna().all(), "kinds are shown and not compared"
    assert not len(summaries(found[:0], {}, "random")) and not len(summaries([], {}, "random"))


def test_methods_that_name_alike_are_not_told_apart() -> None:
    draw = stream(0, "alike")
    scores = {name: draw.standard_normal((Q, N)) for name in METHODS}
    right = np.zeros((Q, N), bool)
    plan = plan_squares(scores, IDS, groups_of(KINDS, 12, 4), [(3, False)], right)
    found = rises(plan, *answers(plan, {"worth": draw.exponential(size=(Q, N))}))
    assert (summary(found, "random").p_holm.dropna() > 0.05).all()


def test_scores_that_are_no_numbers_are_refused(world) -> None:
    scores = {**world["scores"], "noisy": np.full((Q, N), np.nan)}
    with pytest.raises(FloatingPointError, match="scores are not finite"):
        plan_squares(scores, IDS, [[0, 1]], SQUARES, world["right"])


def test_a_group_larger_than_the_methods_is_refused(world) -> None:
    with pytest.raises(ValueError, match="a group of 5 queries; expected at most 4, the methods"):
        plan_squares(world["scores"], IDS, [[0, 1, 2, 3, 4]], SQUARES, world["right"])
