"""The judge and the methods it judges: against dense formulas, small loops, and cases done by hand."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from test_math import data, scheduler, unet  # noqa: F401  (fixtures)

from abu.baselines.features import FUNCTIONS, Sketch, fold, gradient_feature
from abu.baselines.kernels import das, kernel, trak
from abu.baselines.registry import METHODS, scores
from abu.baselines.similarity import chance, cosine, distance, dot
from abu.data.queries import name_queries, read_queries, right_images
from abu.diffusion.losses import target
from abu.diffusion.noise import normals, stream
from abu.diffusion.unet import select_weights
from abu.judge.deviations import deviations, signal_to_noise, summary
from abu.judge.intervals import interval, paired
from abu.judge.lds import correlations, lds
from abu.judge.ranking import average_precision
from abu.judge.removals import (
    Removal,
    each_alone,
    leave_k_out,
    random_halves,
    right_sets,
    top_of_all,
)


def features(n: int, p: int, *key) -> torch.Tensor:
    return torch.from_numpy(stream(*key).standard_normal((n, p)))


@pytest.mark.parametrize("n, p", [(7, 4), (4, 12)])  # solved in p and in n dimensions
def test_kernel_methods_equal_their_dense_formulas(n: int, p: int) -> None:
    q, x, ridge = features(3, p, "q"), features(n, p, "x"), 0.3
    lam = ridge * sum(float(row @ row) for row in x) / n
    inverse = torch.linalg.inv(sum(torch.outer(row, row) for row in x) + lam * torch.eye(p, dtype=x.dtype))
    expected = torch.stack([torch.stack([a @ inverse @ b for b in x]) for a in q])
    leverage = torch.stack([b @ inverse @ b for b in x])
    found, h = kernel((q, x), ridge, p)
    assert torch.allclose(found, expected, atol=1e-12) and torch.allclose(h, leverage, atol=1e-12)
    assert torch.allclose(trak((q, x), ridge, p), expected, atol=1e-12)
    losses = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    by_hand = [[(expected[a, i] * losses[i].sqrt() / (1 - leverage[i])) ** 2 for i in range(n)] for a in range(3)]
    assert torch.allclose(das((q, x), losses, ridge, p), torch.tensor(by_hand, dtype=torch.float64), atol=1e-12)
    with pytest.raises(ValueError, match="ridge is 0"):
        kernel((q, x), 0, p)


def test_similarities_equal_loops() -> None:
    q, x = features(2, 6, "q"), features(5, 6, "x")
    for a in range(2):
        for b in range(5):
            assert distance((q, x))[a, b] == pytest.approx(-float(((q[a] - x[b]) ** 2).sum().sqrt()))
            assert dot((q, x))[a, b] == pytest.approx(float((q[a] * x[b]).sum()))
            assert cosine((q, x))[a, b] == pytest.approx(float(torch.cosine_similarity(q[a], x[b], 0)))
    several = torch.stack([x, x.flip(0)], 1)
    assert torch.equal(cosine((q, several)), torch.maximum(cosine((q, x)), cosine((q, x.flip(0)))))
    assert torch.equal(chance(["a", "b"], [7, 9, 11], 0)[1:, 1:], chance(["b"], [9, 11], 0))


def test_sketch_is_a_sparse_random_matrix_that_keeps_inner_products() -> None:
    sizes, p = {"a": 300, "b": 200}, 64
    sketch = Sketch(sizes, p, 0)
    matrix = torch.stack([sketch({"a": e[:300], "b": e[300:]}) for e in torch.eye(500)])
    assert torch.equal(matrix.abs().sum(1), torch.ones(500))  # one sign a coordinate
    g = features(1, 500, "g")[0].float()
    assert torch.allclose(sketch({"a": g[:300].reshape(30, 10), "b": g[300:]}), g @ matrix, atol=1e-5)
    smaller = fold(matrix, 16)
    assert torch.equal(smaller.abs().sum(1), torch.ones(500))
    with pytest.raises(ValueError, match="48 does not divide 64"):
        fold(matrix, 48)
    u, v = features(2, 500, "pair").float()
    draws = [Sketch(sizes, p, seed) for seed in range(300)]
    products = torch.stack([s({"a": u[:300], "b": u[300:]}) @ s({"a": v[:300], "b": v[300:]}) for s in draws])
    assert abs(products.mean() - u @ v) < 4 * products.std() / 300**0.5  # unbiased
    assert products.std() < 1.3 * (u.norm() * v.norm()) * (2 / p) ** 0.5


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_gradient_feature_equals_plain_autograd(unet, scheduler, data, function) -> None:  # noqa: F811
    names = select_weights(unet, "cross-attn-kv")
    sizes = {name: unet.get_parameter(name).numel() for name in names}
    sketch, times, (latents, texts) = Sketch(sizes, 32, 0), [100, 700], data
    found, loss = gradient_feature(unet, scheduler, names, sketch, function, latents[0, 0], texts[0, 0], times, (0, 70))
    gradients, losses = [], []
    for t in times:
        x0, text, step = latents[:1, 0], texts[:1, 0].float(), torch.tensor([t])
        eps = normals((4, 8, 8), [(0, 70, "feature", t)])
        output = unet(scheduler.add_noise(x0, eps, step), step, encoder_hidden_states=text).sample
        residual = output - target(scheduler, x0, eps, step)
        value = {"loss": residual.square(), "square": output.square(), "mean": output}[function].mean()
        gradients.append(torch.autograd.grad(value, [unet.get_parameter(name) for name in names]))
        losses.append(residual.square().mean().item())
    mean = {name: (a + b) / 2 for name, a, b in zip(names, *gradients)}
    assert torch.allclose(found, sketch(mean), atol=1e-6) and loss == pytest.approx(np.mean(losses), rel=1e-5)
    with pytest.raises(ValueError, match="output function is 'logit'"):
        gradient_feature(unet, scheduler, names, sketch, "logit", latents[0, 0], texts[0, 0], times, (0, 70))


def test_registry_asks_for_what_it_needs_and_names_what_is_missing() -> None:
    pair = (features(2, 8, "q"), features(3, 8, "x"))
    asked = []
    evidence = lambda name: asked.append(name) or (torch.ones(3) if name == "losses" else pair)
    assert scores("das", evidence, {"ridge": 1.0, "projection": 8, "other": 0}).shape == (2, 3)
    assert asked == ["mean gradients", "losses"]
    with pytest.raises(KeyError, match="needs the options"):
        scores("trak", evidence, {"ridge": 1.0})
    with pytest.raises(KeyError, match="unknown method 'tracks'"):
        scores("tracks", evidence, {})
    with pytest.raises(FloatingPointError, match="of 'pixel' are not finite"):
        scores("pixel", lambda name: (pair[0] * float("nan"), pair[1]), {})
    assert all(function.__doc__ for function, *_ in METHODS.values())


def test_lds_of_the_true_linear_scores_is_one() -> None:
    """Losses of a linear model of the data: ``-sum_{z in S} tau`` and a constant, so that its scores predict them all."""
    tau = stream("tau").standard_normal((4, 20))
    subsets = np.stack([stream("subset", m).permutation(20) < 10 for m in range(16)])
    losses = 3.0 - np.array([[sum(tau[q, i] for i in range(20) if s[i]) for s in subsets] for q in range(4)])
    assert np.allclose(lds(tau, subsets, losses), 1)
    assert np.allclose(lds(-tau, subsets, losses), -1)
    assert abs(lds(stream("other").standard_normal((4, 20)), subsets, losses).mean()) < 0.5
    assert lds(np.zeros((1, 20)), subsets, losses[:1]).tolist() == [0.0]
    with pytest.raises(ValueError, match="2 subsets are too few"):
        lds(tau, subsets[:2], losses[:, :2])


def test_statistics_agree_with_definitions() -> None:
    a, b = stream("a").standard_normal((3, 12)), stream("b").standard_normal((3, 12))
    ranks = lambda row: np.argsort(np.argsort(row)).astype(float)
    assert np.allclose(correlations(a, b), [np.corrcoef(ranks(x), ranks(y))[0, 1] for x, y in zip(a, b)])
    scores, own = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert average_precision(scores, own) == pytest.approx((1 / 1 + 2 / 3) / 2)
    values = stream("values").standard_normal(400) + 5
    low, high = interval(values)
    assert low < values.mean() < high and high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert interval(values) == (low, high) and interval(np.ones(1)) == (1, 1)
    assert paired(np.arange(1, 7), np.zeros(6)) == pytest.approx(2 / 2**6)  # all of six signs equal
    assert paired(np.ones(5), np.ones(5)) == 1


def test_equal_removals_are_one_task() -> None:
    ids = [30, 10, 20, 50, 40]
    scores = np.array([[5, 4, 3, 2, 1], [1, 2, 3, 4, 5.0]])
    assert top_of_all(scores, ids, 2) == (10, 30, 40, 50)
    assert Removal("abu", 2, 0, 1, (10, 30)).name == Removal("random", 9, 3, 1, (30, 10)).name
    assert Removal("abu", 2, 0, 1, (10, 30)).name != Removal("abu", 2, 0, 2, (10, 30)).name
    plan = leave_k_out({"abu": scores, "same": scores * 2, "pixel": -scores}, ids, {"g": [0]}, [1, 2], [0, 1], 2, 0)
    assert len(plan) == 2 * 2 * (3 + 2) and len({r.name for r in plan if r.method in ("abu", "same")}) == 4
    assert all(len(r.removed) == r.k for r in plan)  # one query: random sets are as large
    random = [r.removed for r in plan if r.method == "random" and r.k == 2]
    assert random[:2] == random[2:]  # paired by seed
    alone = each_alone(scores, ids, [6, 8], 2, "abu", 1, 0)
    assert [(r.removed, r.group) for r in alone] == [((30,), "query 6"), ((40,), "query 8")]
    right, *others = right_sets(ids, np.array([1, 0, 0, 1, 0], bool), 3, 0)
    assert right.removed == (30, 50) and [len(r.removed) for r in others] == [2, 2, 2]
    halves = random_halves(ids, 3, [0, 1], 0)
    assert [len(r.removed) for r in halves] == [2] * 6 and [r.removed for r in halves[:3]] == [r.removed for r in halves[3:]]


def test_deviations_are_paired_by_seed() -> None:
    models = pd.DataFrame({"method": ["none", "abu", "none", "abu"], "k": [0, 1, 0, 1], "draw": 0, "seed": [0, 0, 1, 1],
                           "group": "all", "images": [0, 2, 0, 2]})  # fmt: skip
    queries = pd.DataFrame({"query": [4, 7], "kind": ["plain", "style"]})
    losses = np.array([[1, 2], [1.5, 2.25], [3, 3], [3.25, 3.75]])
    table = deviations(models, queries, {"loss": losses}, seed=0)
    assert table[table.model == 3][["raw_loss", "loss"]].to_numpy().tolist() == [[2.25, 0.25], [1.75, 0.75]]
    assert table[table.model == 1].loss.tolist() == table[table.model == 1].raw_loss.tolist() == [0.5, 0.25]
    other = table.assign(method=table.method.replace("abu", "pixel"), loss=table.loss / 2)
    found = summary(pd.concat([table, other]).query("k == 1"))
    assert found.index.tolist() == ["abu", "pixel"]
    assert found.loss["abu"] == pytest.approx(np.mean([0.375, 0.5])) and found.images["abu"] == 2
    assert found.loss_se["abu"] == pytest.approx(np.std([0.375, 0.5], ddof=1) / 2**0.5)
    assert found.p["pixel"] == pytest.approx(2 / 2**4) and np.isnan(found.p["abu"])
    fewer = summary(pd.concat([table, other[other.seed == 0]]).query("k == 1"))  # means over the seed that both have
    assert fewer.loss["abu"] == 2 * fewer.loss["pixel"] == pytest.approx(np.mean([0.5, 0.25])) and fewer.seeds["abu"] == 1
    with pytest.raises(ValueError, match=r"no model without removal for seeds \[1\]"):
        deviations(models.drop(index=2).reset_index(drop=True), queries, {"loss": losses[[0, 1, 3]]}, seed=0)


def test_signal_is_counted_in_deviations_of_random_removals() -> None:
    random = stream("signal").normal(0.1, 0.02, (2000, 3))
    assert signal_to_noise(np.array([0.1, 0.16, 0.2]), random) == pytest.approx([0, 3, 5], abs=0.2)
    few = random[:3]
    expected = (0.2 - few.mean(0)) / np.sqrt(few.var(0, ddof=1).mean())
    assert signal_to_noise(np.full(3, 0.2), few) == pytest.approx(expected)
    with pytest.raises(ValueError, match="1 random removal has no"):
        signal_to_noise(np.zeros(3), random[:1])


def test_queries_are_named_and_know_what_is_right(tmp_path) -> None:
    prompts = {"plain": ["skull"], "style": {"a heart": {"style": ["noto", "fluent"], "concept": "heart"}}, "none": ["", ""]}
    queries = name_queries(prompts)
    assert queries.name.tolist() == ["skull", "a heart", "no caption", "no caption (2)"]
    queries.to_csv(tmp_path / "queries.csv", index=False)
    assert read_queries(tmp_path / "queries.csv").equals(queries) and json.loads(queries["where"][0]) == {"caption": "skull"}
    images = pd.DataFrame({"caption": ["skull", "heart", "heart"], "concept": ["skull", "heart", "heart"], "style": ["noto", "noto", "twemoji"]})
    assert right_images(queries, images).tolist() == [[True, False, False], [False, True, False], [False] * 3, [False] * 3]
    with pytest.raises(KeyError, match="no field .'style'"):
        right_images(queries, images.drop(columns="style"))
    with pytest.raises(ValueError, match="no query"):
        name_queries({"plain": []})


def test_costs_are_set_column_by_column(tmp_path) -> None:
    from abu.study.costs import record

    record({"abu": {"seconds_once": 2}, "pixel": {"bytes": 3}}, tmp_path / "costs.csv")
    record({"abu": {"seconds_per_query": 0.5}}, tmp_path / "costs.csv")
    table = pd.read_csv(tmp_path / "costs.csv", index_col="method")
    assert table.loc["abu", ["seconds_once", "seconds_per_query"]].tolist() == [2, 0.5] and table.bytes["pixel"] == 3
    with pytest.raises(KeyError, match="cost .'minutes'"):
        record({"abu": {"minutes": 1}}, tmp_path / "costs.csv")
