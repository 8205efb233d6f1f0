"""The linear datamodelling score, where it is known."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import spearmanr

from abu.diffusion.noise import stream
from abu.judge.lds import compare, correlations, lds, means_by_kind, predicted, resampled, table_of

TAU = stream("tau").standard_normal((4, 20))
HALVES = np.stack([stream("half", m).permutation(20) < 10 for m in range(16)])


def differences(tau: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """Of losses that are a constant less the sum of tau over a model's images, [P, Q]."""
    loss = lambda kept: 3.0 - np.array([row[kept].sum() for row in tau])
    exact = np.stack([loss(half) - loss(~half) for half in HALVES])
    return exact + noise * stream("noise").standard_normal(exact.shape)


def test_lds_of_the_true_linear_scores_is_one() -> None:
    assert np.allclose(predicted(TAU, HALVES), differences(TAU).T)
    assert np.allclose(lds(TAU, HALVES, differences(TAU)), 1)
    assert np.allclose(lds(-TAU, HALVES, differences(TAU)), -1)
    other = stream("other").standard_normal((4, 20))
    assert abs(lds(other, HALVES, differences(TAU)).mean()) < 0.5
    assert lds(np.zeros((1, 20)), HALVES, differences(TAU)[:, :1]).tolist() == [0.0]
    with pytest.raises(ValueError, match="2 pairs have no"):
        lds(TAU, HALVES[:2], differences(TAU)[:2])
    with pytest.raises(FloatingPointError, match="1 of 80 values"):
        lds(np.where(TAU == TAU.max(), np.nan, TAU), HALVES, differences(TAU))


def test_correlations_are_scipys_ties_and_all() -> None:
    a = stream("a").integers(5, size=(3, 12))
    b = stream("b").standard_normal((2, 3, 12)).round(1)
    expected = [[spearmanr(x, y).statistic for x, y in zip(a, row)] for row in b]
    assert np.allclose(correlations(a, b), expected)
    assert correlations(np.ones(5), np.arange(5)) == 0


def test_resampled_scores_are_those_of_drawn_pairs_and_queries() -> None:
    measured, told = differences(TAU).T, [predicted(TAU, HALVES), predicted(TAU[::-1], HALVES)]
    told.append(told[0].round())  # some are equal
    groups = [np.arange(4), np.array([1])]
    found = resampled(told, measured, groups, seed=3, resamples=5)
    for b in range(5):
        draw = stream(3, "resample", b)
        pairs = draw.integers(16, size=16)
        rows = [group[draw.integers(len(group), size=len(group))] for group in groups]
        for k, values in enumerate(told):
            for g, row in enumerate(rows):
                each = [spearmanr(values[q][pairs], measured[q][pairs]).statistic for q in row]
                assert np.isclose(found[k, g, b], np.mean(each))


def test_equal_sums_tie_in_whatever_order_they_are_added() -> None:
    scores = np.tile([0.1, 0.2, 0.3, 0.7, 1.1], 20)[None] / 3
    halves = np.stack([stream("tie", m).permutation(100) // 5 < 10 for m in range(8)])
    halves[4:] = halves[:4].reshape(4, 20, 5)[:, ::-1].reshape(4, 100)  # the same scores, moved
    found = predicted(scores, halves)[0]
    assert (found[4:] == found[:4]).all() and np.allclose(found, -scores @ (2.0 * halves.T - 1))
    assert len(np.unique(found)) == 4
    assert predicted(1e-30 * scores, halves)[0] == pytest.approx(1e-30 * found)
    scores[0, 0] *= 1 + 1e-9
    assert (predicted(scores, halves)[0] != found).all()


def test_table_has_intervals_by_kind() -> None:
    scores = {"abu": TAU + stream("error").standard_normal(TAU.shape), "true": TAU, "no": -TAU}
    kinds = ["plain", "plain", "style", "style"]
    table = table_of(scores, HALVES, differences(TAU), kinds, resamples=200)
    assert table.kind.tolist() == ["all", "plain", "style"] * 3
    assert table.queries.tolist() == [4, 2, 2] * 3
    rows = table[table.kind == "all"].set_index("method")
    assert rows.lds["true"] == pytest.approx(1) and rows.low["true"] == pytest.approx(1)
    assert rows.low["abu"] < rows.lds["abu"] < rows.high["abu"] < 1
    each = lds(scores["abu"], HALVES, differences(TAU))
    means = means_by_kind(each, kinds)
    assert means == pytest.approx(
        {"all": each.mean(), "plain": each[:2].mean(), "style": each[2:].mean()}
    )
    assert table[table.method == "abu"].lds.tolist() == list(means.values())


def test_named_comparisons_are_paired_and_corrected_for_their_number() -> None:
    noisy = {f"m{n}": TAU + 2 * stream("m", n).standard_normal(TAU.shape) for n in range(4)}
    scores = {"true": TAU, "no": -TAU, **noisy}
    named = {"true": ["no", "m0", "unknown"], "m1": ["m2", "m3"], "unknown": ["no"]}
    kinds = ["plain", "plain", "style", "style"]
    compared = partial(compare, scores, HALVES, differences(TAU), kinds, resamples=1000)
    table = compared({"all": named, "style": {"true": ["m0"]}, "other": {"true": ["no"]}})
    pairs = list(zip(table.method, table.other))
    assert pairs == [("true", "no"), ("true", "m0"), ("m1", "m2"), ("m1", "m3"), ("true", "m0")]
    first = table.iloc[0]
    assert first.difference == pytest.approx(2) and first.low == pytest.approx(2)
    assert first.p == pytest.approx(2 / 1001) and first.apart and first.p_holm > first.p
    of = lambda name: lds(scores[name], HALVES, differences(TAU)).mean()
    assert table.difference[2] == pytest.approx(of("m1") - of("m2"))
    style = [lds(scores[name], HALVES, differences(TAU))[2:].mean() for name in ("true", "m0")]
    assert table.kind.tolist() == ["all"] * 4 + ["style"]
    assert table.difference[4] == pytest.approx(style[0] - style[1])
    swapped = compared({"all": {"m2": ["m1"]}}).iloc[0]
    assert (swapped.difference, swapped.low) == pytest.approx(
        (-table.difference[2], -table.high[2])
    )
    assert swapped.p == table.p[2] and (table.p_holm >= table.p).all()
    few = compare(scores, HALVES, differences(TAU), kinds, {"all": named}, resamples=10)
    assert few.p[0] == pytest.approx(2 / 801), "four comparisons, 200 draws each at least"
    assert compared({}).columns.tolist() == table.columns.tolist()
