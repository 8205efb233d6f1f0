"""Scores from a store with standard errors that say how far they would scatter."""

import torch

from abu.ask.scores import from_store, jackknife, left_out
from abu.core.influence import means
from abu.core.store import answer
from abu.core.unlearn import over_flips
from abu.diffusion.noise import normal

STORE = normal((70, 2, 2, 3, 1 + 2, 16), "store").half()
QUERIES = [normal((5, 16), "query", q) for q in range(3)]
LENGTHS, DIMS = [0.1, 0.2, 0.3], 64


def test_scores_are_those_of_both_terms() -> None:
    for query, r, scores in zip(QUERIES, LENGTHS, from_store(STORE, QUERIES, LENGTHS, DIMS)):
        linear, curved = means(answer(STORE, query[:1], DIMS))[0].double()
        expected = over_flips(r * linear + r * r * curved)[0]
        torch.testing.assert_close(scores.values, expected, rtol=1e-5, atol=1e-7)
        assert (scores.errors >= torch.maximum(scores.query, scores.image)).all()


def test_a_query_has_the_same_scores_alone_and_in_any_company() -> None:
    together = from_store(STORE, QUERIES, LENGTHS, DIMS)
    turned = from_store(STORE, QUERIES[::-1], LENGTHS[::-1], DIMS)[::-1]
    for q, (query, r) in enumerate(zip(QUERIES, LENGTHS)):
        (alone,) = from_store(STORE, [query], [r], DIMS)
        for other in (together[q], turned[q]):
            assert torch.equal(alone.values, other.values)
            assert torch.equal(alone.errors, other.errors)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    draws = {"weight": normal((8, 3, 4), "draws").double()}
    means_ = left_out(draws)["weight"]
    torch.testing.assert_close(means_[0], draws["weight"].mean(0))
    expected = draws["weight"].std(0) / 8**0.5
    torch.testing.assert_close(jackknife(means_[1:]), expected)
