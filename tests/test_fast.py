"""What makes it fast changes no number: against plain diffusers, torch.func, forward mode, and dense algebra."""

import copy
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import UNet2DConditionModel
from test_math import CONFIG, IDS, TIMESTEPS, data, scheduler, unet  # noqa: F401  (fixtures)
from torch import nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from abu.core.curvature import eigenbasis, factors, precondition, rotated_squares, summed
from abu.core.fisher import fisher_diagonal, per_example
from abu.core.influence import first_order, forward_mode, gauss_newton, means
from abu.core.store import answer, convert, leading, project
from abu.core.taps import Taps
from abu.core.unlearn import moved, over_flips
from abu.data.files import write_parts
from abu.data.scores import each_method, methods_in, read_scores, write_scores
from abu.diffusion.attention import SharedText, share_text
from abu.diffusion.losses import denoising_loss, loss_table, target
from abu.diffusion.noise import normal, normals, stream
from abu.diffusion.prefetch import prefetch
from abu.diffusion.unet import select_weights, speed_up
from abu.judge.ranking import found_among, overlap


def plain(seed: int = 0) -> nn.Module:
    """A U-Net whose attention nobody touched."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(**CONFIG).eval().requires_grad_(False)


@pytest.mark.parametrize("compiled", [False, True])
def test_shared_text_equals_repeated_text(compiled: bool) -> None:
    untouched, shared = plain(), share_text(plain())
    x, t, text = normals((4, 8, 8), [("x", i) for i in range(6)]), torch.tensor([1, 500, 999] * 2), normals((6, 8), [("c", i) for i in range(2)])
    if compiled:
        shared.compile(dynamic=False)
    widths = []
    first = next(layer for name, layer in shared.named_modules() if name.endswith("attn2.to_k"))
    if not compiled:
        first.register_forward_hook(lambda layer, inputs, output: widths.append(len(inputs[0])))
    expected = untouched(x, t, encoder_hidden_states=text.repeat_interleave(3, 0)).sample
    found = shared(x, t, encoder_hidden_states=text).sample
    assert (found - expected).abs().max() < 1e-5
    assert widths == ([] if compiled else [2])  # the two captions are projected once, not six times
    if not compiled:
        assert torch.equal(shared(x, t, encoder_hidden_states=text.repeat_interleave(3, 0)).sample, expected)
        with pytest.raises(ValueError, match="4 captions cannot share 6 rows"):
            shared(x, t, encoder_hidden_states=text.repeat(2, 1, 1))
    assert sum(isinstance(p, SharedText) for p in share_text(shared).attn_processors.values()) == len(shared.attn_processors)
    assert not isinstance(shared.attn_processors["mid_block.attentions.0.transformer_blocks.0.attn2.processor"].inner, SharedText)


def test_attention_with_keys_of_its_own_is_refused() -> None:
    blocks = {"down_block_types": ("DownBlock2D", "SimpleCrossAttnDownBlock2D"), "up_block_types": ("SimpleCrossAttnUpBlock2D", "UpBlock2D")}
    other = UNet2DConditionModel(**{**CONFIG, **blocks, "mid_block_type": "UNetMidBlock2DSimpleCrossAttn"})
    with pytest.raises(TypeError, match="adds keys and values of its own"):
        share_text(other)


class Everything(nn.Module):
    """Every kind of layer whose per-example gradients are known."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.group, self.layer = nn.GroupNorm(3, 6), nn.LayerNorm(6)
        self.tokens, self.rows = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        h = self.group(self.conv(x)).flatten(2).mT
        return self.rows(self.tokens(self.layer(h)).tanh().mean(1)).square().sum(1)


def test_taps_equal_one_example_at_a_time() -> None:
    torch.manual_seed(0)
    model, x = Everything().double(), torch.randn(4, 2, 6, 6, dtype=torch.float64)
    for norm in (model.group, model.layer):
        nn.init.normal_(norm.weight)
    names = [name for name, _ in model.named_parameters()]
    with Taps(model.requires_grad_(False), names) as taps:
        taps.backward(model(x).sum())
    for b in range(len(x)):
        alone = torch.func.grad(lambda p: functional_call(model, p, (x[b : b + 1],)).sum())(dict(model.named_parameters()))
        for name in names:
            torch.testing.assert_close(taps.gradient(name)[b], alone[name], rtol=1e-9, atol=1e-12)
    with pytest.raises(TypeError, match="Embedding are not known"):
        Taps(nn.Sequential(nn.Embedding(3, 2)), ["0.weight"])
    twice = nn.Sequential(layer := nn.Linear(2, 2), layer)
    with pytest.raises(RuntimeError, match="called twice"), Taps(twice, ["0.weight"]):
        twice(torch.ones(1, 2))


def examples(data):  # noqa: F811
    latents, texts = data
    return lambda i, flip, caption: (latents[i, flip % 2], texts[i, caption % 2])


def squares(unet, scheduler, example, weights, draws):  # noqa: F811
    """Fisher's diagonal by torch.func, one example at a time."""
    from abu.core.fisher import draw_batch

    total = {name: 0.0 for name in weights}
    params = {name: unet.get_parameter(name).detach() for name in weights}
    for i in range(len(IDS)):
        for k in range(draws):
            _, (x0, eps, t, text) = draw_batch(scheduler, example, IDS, [(i, k)], 0)

            def loss(p):
                model = lambda *args, **kwargs: functional_call(unet, p, args, kwargs)
                return denoising_loss(model, scheduler, x0, eps, t, text).sum()

            for name, g in torch.func.grad(loss)(params).items():
                total[name] += g.double().square()
    return {name: value / len(IDS) / draws for name, value in total.items()}


@pytest.mark.parametrize("selection", ["cross-attn-kv", "all"])
def test_fisher_equals_torch_func(scheduler, data, selection: str) -> None:  # noqa: F811
    model = plain()
    weights = select_weights(model, selection)
    expected = squares(model, scheduler, examples(data), weights, 1)
    found = fisher_diagonal(model, scheduler, weights, examples(data), IDS, 1, batch_size=3)
    for name in weights:
        assert found[name].dtype == torch.float64
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-6 * float(expected[name].max()))


@pytest.fixture
def moves(unet):  # noqa: F811
    """Two moves of the key and value weights."""
    weights = select_weights(unet, "cross-attn-kv")
    return {name: 0.1 * normals(tuple(unet.get_parameter(name).shape), [("move", name, q) for q in range(2)]) for name in weights}


def forward_mode_alone(unet, scheduler, data, deltas, q: int, i: int, f: int, c: int, s: int) -> tuple[float, float]:  # noqa: F811
    """Exact directional derivative of one entry's loss, and ``|J Delta|^2 / D``, by forward mode in float64."""
    latents, texts = data
    model = copy.deepcopy(unet).double()
    t = torch.tensor([TIMESTEPS[s]])
    x0, eps = latents[i, f][None].double(), normal((4, 8, 8), 3, "loss", IDS[i], c, TIMESTEPS[s])[None].double()
    params = {name: model.get_parameter(name).detach() for name in deltas}

    def output(p):
        return functional_call(model, p, (scheduler.add_noise(x0, eps, t), t, texts[i, c][None].double())).sample

    with sdpa_kernel(SDPBackend.MATH):  # the others know no forward mode
        value, tangent = jvp(output, (params,), ({name: d[q].double() for name, d in deltas.items()},))
    residual = value - target(scheduler, x0, eps, t)
    return float((2 * residual * tangent).mean()), float(tangent.square().mean())


def test_first_order_and_gauss_newton_equal_forward_mode(unet, scheduler, data, moves) -> None:  # noqa: F811
    latents, texts = data
    weights = list(moves)
    linear, curved = gauss_newton(unet, scheduler, weights, moves, latents, texts, IDS, TIMESTEPS, 200, seed=3, batch_size=7)
    assert linear.shape == (2, 5, 2, 2, 3) and curved.shape == (2, 5, 2, 2, 3, 200)
    errors = []
    for place in [(0, 0, 0, 0, 0), (1, 2, 1, 1, 2), (0, 4, 1, 0, 1), (1, 3, 0, 1, 0)]:
        exact, square = forward_mode_alone(unet, scheduler, data, moves, *place)
        assert linear[place] == pytest.approx(exact, rel=1e-4, abs=1e-7)
        errors.append((curved[place].mean() / square - 1) / (2 / 200) ** 0.5)  # in standard errors
    assert torch.tensor(errors).abs().max() < 3.5
    assert torch.tensor(errors).abs().max() > 1e-3  # an estimate, not the exact number by another way
    one = {name: move[1] for name, move in moves.items()}
    derivative, squared = forward_mode(unet, scheduler, weights, one, latents, texts, IDS, TIMESTEPS, seed=3, batch_size=7)
    exact, square = forward_mode_alone(unet, scheduler, data, moves, 1, 2, 1, 1, 2)
    assert derivative[2, 1, 1, 2] == pytest.approx(exact, rel=1e-4) and squared[2, 1, 1, 2] == pytest.approx(square, rel=1e-4)
    torch.testing.assert_close(linear[1], derivative, rtol=1e-3, atol=1e-6)
    quick = first_order(unet, scheduler, weights, moves, latents, texts, IDS, TIMESTEPS, seed=3, batch_size=7)
    torch.testing.assert_close(quick, linear.mean(4), rtol=1e-3, atol=1e-6)
    other = first_order(unet, scheduler, weights, moves, latents, texts, IDS, TIMESTEPS, seed=3, batch_size=2)
    torch.testing.assert_close(quick, other, rtol=1e-3, atol=1e-6)
    part = gauss_newton(unet, scheduler, weights, moves, latents[3:], texts[3:], IDS[3:], TIMESTEPS, 2, seed=3, batch_size=64)
    torch.testing.assert_close(part[1], curved[:, 3:, ..., :2], rtol=1e-3, atol=1e-7)


def test_of_a_fitted_image_only_gauss_newton_sees_the_finite_step(unet, scheduler, data, moves, monkeypatch) -> None:  # noqa: F811
    """Where the model predicts its target exactly, first order is blind and the second term tells the rise of the loss."""
    latents, texts = data
    one, fitted = {name: 0.3 * move[:1] for name, move in moves.items()}, plain()
    current = {}

    def answer(_, x0, eps, t):
        return fitted(scheduler.add_noise(x0, eps, t), t, encoder_hidden_states=current["text"].repeat_interleave(len(x0) // len(current["text"]), 0)).sample

    remember = unet.register_forward_pre_hook(lambda model, args, kwargs: current.update(text=kwargs["encoder_hidden_states"]), with_kwargs=True)
    monkeypatch.setattr("abu.diffusion.losses.target", answer)
    monkeypatch.setattr("abu.core.influence.target", answer)
    try:
        linear, curved = gauss_newton(unet, scheduler, list(moves), one, latents, texts, IDS, TIMESTEPS, 100)
        with moved(unet, {name: move[0] for name, move in one.items()}):
            exact = over_flips(loss_table(unet, scheduler, latents, texts, IDS, TIMESTEPS).double().mean((2, 3)), "mean")
    finally:
        remember.remove()
    [(first, second)] = means([(linear[:, :2], curved[:, :2]), (linear[:, 2:], curved[:, 2:])])
    assert over_flips(first, "mean").abs().max() < 1e-3 * exact.min()
    torch.testing.assert_close(over_flips(first + second, "mean")[0].double(), exact, rtol=0.15, atol=0)


def test_ekfac_equals_dense_algebra(unet, scheduler, data) -> None:  # noqa: F811
    weights = select_weights(unet, "cross-attn-kv")[:2]
    walk = partial(per_example, unet, scheduler, weights, examples(data), IDS, 2)
    basis = eigenbasis(summed(walk(batch_size=4), partial(factors, weights=weights)))
    sums = summed(walk(batch_size=3), partial(rotated_squares, weights=weights, basis=basis))
    cached = basis | {name: value / 10 for name, value in sums.items()}
    for name in weights:
        g = torch.cat([taps.gradient(name) for taps in walk()]).double()  # [10, O, I]
        left, right = basis[f"{name}.outputs"], basis[f"{name}.inputs"]
        rotation = torch.kron(left, right)  # columns: eigenvectors of the Kronecker product, row-major
        fisher = g.flatten(1).T @ g.flatten(1) / 10
        exact = (rotation.T @ fisher @ rotation).diagonal().reshape(g.shape[1:])
        torch.testing.assert_close(cached[f"{name}.values"], exact, rtol=1e-3, atol=1e-6 * float(exact.max()))
        gradient = {name: normal(tuple(g.shape[1:]), "g", name)}
        damped = rotation @ torch.diag(exact.flatten() + 0.1 * exact.mean()) @ rotation.T
        solved = torch.linalg.solve(damped, gradient[name].double().flatten()).reshape(g.shape[1:])
        found = precondition("ekfac", gradient, cached, 0.1)[name]
        torch.testing.assert_close(found.double(), solved, rtol=1e-3, atol=1e-4 * float(solved.abs().max()))
        torch.testing.assert_close(torch.eye(len(left), dtype=left.dtype), left.T @ left)
        tokens = torch.cat([taps.tokens(name)[0] for taps in walk()]).double().flatten(0, 1)
        spread = right.T @ (tokens.T @ tokens) @ right
        torch.testing.assert_close(spread, torch.diag(spread.diagonal()), rtol=1e-4, atol=1e-4 * float(spread.max()))
        assert spread.diagonal().diff().max() <= 1e-6 * float(spread.max())  # from the largest


def test_ekfac_agrees_with_kronfluence() -> None:
    """A regression network, whose empirical Fisher another library fits too: the same preconditioned gradient."""
    pytest.importorskip("kronfluence")
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments
    from kronfluence.task import Task

    torch.manual_seed(0)
    x, y = torch.randn(40, 5, 6), torch.randn(40, 5, 3)
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Tanh(), nn.Linear(4, 3, bias=False))
    weights = ["0.weight", "2.weight"]

    def batches():
        for part in range(0, 40, 10):
            with Taps(model, weights) as taps:
                taps.backward((model(x[part : part + 10]) - y[part : part + 10]).square().sum())
            yield taps

    basis = eigenbasis(summed(batches(), partial(factors, weights=weights)))
    cached = basis | {name: value / 40 for name, value in summed(batches(), partial(rotated_squares, weights=weights, basis=basis)).items()}

    class Regression(Task):
        def compute_train_loss(self, batch, model, sample=False):
            return (model(batch[0]) - batch[1]).square().sum()

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        other = prepare_model(copy.deepcopy(model), Regression())
        analyzer = Analyzer("regression", other, Regression(), cpu=True, output_dir=folder, disable_tqdm=True)
        arguments = FactorArguments("ekfac", use_empirical_fisher=True)
        dataset = torch.utils.data.TensorDataset(x, y)
        analyzer.fit_all_factors("factors", dataset, per_device_batch_size=10, factor_args=arguments, overwrite_output_dir=True)
        eigen, values = analyzer.load_eigendecomposition("factors"), analyzer.load_lambda_matrices("factors")
    for name in weights:
        layer = name.removesuffix(".weight")
        left, right = eigen["gradient_eigenvectors"][layer].double(), eigen["activation_eigenvectors"][layer].double()
        theirs = values["lambda_matrix"][layer].double() / values["num_lambda_processed"][layer]
        theirs = {f"{name}.outputs": left, f"{name}.inputs": right, f"{name}.values": theirs}
        torch.testing.assert_close(cached[f"{name}.values"].sum(), theirs[f"{name}.values"].sum(), rtol=1e-4, atol=0)
        gradient = {name: normal(tuple(model.get_parameter(name).shape), name)}
        ours, other = (precondition("ekfac", gradient, found, 0.1)[name] for found in (cached, theirs))
        torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


def test_curvature_says_what_is_missing() -> None:
    gradient = {"a.weight": torch.ones(2, 2)}
    assert precondition("identity", gradient, {}, 0.1) is gradient
    with pytest.raises(ValueError, match="curvature is 'kfac'; expected one of"):
        precondition("kfac", gradient, {}, 0.1)
    for kind in ("diagonal", "ekfac"):
        with pytest.raises(KeyError, match=f"no {kind} curvature for a.weight"):
            precondition(kind, gradient, {}, 0.1)
    with pytest.raises(ValueError, match="zeros: give a damping"):
        precondition("ekfac", gradient, {"a.weight.outputs": torch.eye(2), "a.weight.inputs": torch.eye(2), "a.weight.values": torch.zeros(2, 2)}, 0.1)
    biased = nn.Linear(2, 2)
    with Taps(nn.Sequential(biased), ["0.bias"]) as taps:
        taps.layers["0"](torch.ones(1, 2))
    with pytest.raises(TypeError, match="0.bias is not the weight of a Linear layer"):
        summed([taps], partial(factors, weights=["0.bias"]))


def test_prefetch_keeps_order_and_raises_in_its_place() -> None:
    def batch(n: int):
        if n == 3:
            raise ValueError("batch 3 is broken")
        return n, [torch.full((2,), float(n))]

    seen = []
    with pytest.raises(ValueError, match="batch 3 is broken"):
        for label, (x,) in prefetch([partial(batch, n) for n in range(5)], "cpu"):
            seen.append((label, x.tolist()))
    assert seen == [(n, [n, n]) for n in range(3)]
    assert list(prefetch([], "cpu")) == []


def test_store_answers_as_the_pass_over_the_images_does(unet, scheduler, data, moves) -> None:  # noqa: F811
    latents, texts = data
    weights = list(moves)
    walk = lambda: per_example(unet, scheduler, weights, examples(data), IDS, 3)
    cached = eigenbasis(summed(walk(), partial(factors, weights=weights)))
    cached |= {name: value / 15 for name, value in summed(walk(), partial(rotated_squares, weights=weights, basis=cached)).items()}
    exact = gauss_newton(unet, scheduler, weights, moves, latents, texts, IDS, TIMESTEPS, 2)
    size = sum(unet.get_parameter(name).numel() for name in weights)
    errors = []
    for dimension in (size, size // 2, size // 8):
        basis = leading(cached, weights, dimension)
        stored = project(unet, scheduler, basis, latents, texts, IDS, TIMESTEPS, 2, batch_size=7)
        assert stored.shape == (5, 2, 2, 3, 3, dimension) and stored.dtype == torch.float16
        found = [torch.cat(terms, 1) for terms in zip(*answer(stored.numpy(), basis.of(moves), 4 * 8 * 8, chunk=2))]
        errors.append([float((a - b).abs().mean() / b.abs().mean()) for a, b in zip(found, exact)])
    assert max(errors[0]) < 5e-3  # all coordinates: float16 alone is lost
    assert errors[0] < errors[1] < errors[2]
    values = torch.cat([cached[f"{name}.values"].flatten() for name in weights])
    kept = torch.cat([cached[f"{name}.values"].flatten()[place] for name, place in basis.places.items()])
    torch.testing.assert_close(kept.sort().values, values.sort().values[-len(kept) :])
    with pytest.raises(KeyError, match="no ekfac curvature"):
        leading({}, weights, 4)
    with pytest.raises(FloatingPointError, match="stored coordinates"):
        convert(torch.tensor([1e9]))


@pytest.mark.parametrize("precision, tolerance", [("float32", 1e-5), ("tf32", 1e-5), ("bf16", 0.05)])  # no tf32 on the CPU
def test_precisions_agree(scheduler, data, precision: str, tolerance: float) -> None:  # noqa: F811
    latents, texts = data
    model = speed_up(plain(), precision, channels_last=True)
    assert speed_up(model, precision, channels_last=True) is model
    exact = loss_table(plain(), scheduler, latents, texts, IDS, TIMESTEPS)
    torch.testing.assert_close(loss_table(model, scheduler, latents, texts, IDS, TIMESTEPS), exact, rtol=tolerance, atol=0)
    weights = select_weights(model, "cross-attn-kv")
    exact, found = (fisher_diagonal(m, scheduler, weights, examples(data), IDS, 1) for m in (plain(), model))
    total = lambda fisher: float(sum(f.sum() for f in fisher.values()))
    assert total(found) == pytest.approx(total(exact), rel=max(4 * tolerance, 1e-4))
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        speed_up(model, "fp8")


def test_spread_captions_are_entries_of_the_full_grid(unet, scheduler, data) -> None:  # noqa: F811
    latents, texts = data
    whole = loss_table(unet, scheduler, latents, texts, IDS, TIMESTEPS)
    spread = loss_table(unet, scheduler, latents, texts, IDS, TIMESTEPS, batch_size=5, spread=True)
    assert spread.shape == (5, 2, 1, 3)
    for t in range(3):
        torch.testing.assert_close(spread[:, :, 0, t], whole[:, :, t % 2, t], rtol=1e-5, atol=1e-6)


def test_means_by_parts_and_choices_equal_those_of_the_whole() -> None:
    linear, curved = normals((3, 2, 2, 4), [("linear", q) for q in range(2)]), normals((3, 2, 2, 4, 3), [("curved", q) for q in range(2)])
    choices = [(slice(None), slice(None)), (slice(None, None, 2), slice(None)), (slice(None), slice(-1, None))]
    found = means(((linear[:, part], curved[:, part]) for part in (slice(2), slice(2, None))), *choices)
    assert found.shape == (3, 2, 2, 3, 2) and found.dtype == torch.float32
    expected = [(linear.mean((3, 4)), curved.mean((3, 4, 5))), (linear[..., ::2].mean((3, 4)), curved[..., ::2, :].mean((3, 4, 5)))]
    expected += [(linear.mean((3, 4)), curved[..., -1].mean((3, 4)))]
    for row, terms in zip(found, expected):
        torch.testing.assert_close(row, torch.stack(terms))
    torch.testing.assert_close(means([(linear, curved)]), found[:1])


def test_scores_of_many_methods_come_back_one_by_one(tmp_path) -> None:
    found = {name: stream("scores", name).random((2, 3)) for name in ("b", "a")}
    write_scores(tmp_path / "all.parquet", found, [5, 4], [7, 9, 8])
    assert methods_in(tmp_path / "all.parquet") == ["b", "a"]
    for name, values in found.items():
        assert np.array_equal(read_scores(tmp_path / "all.parquet", [4, 5], [9, 8, 7], name), values[::-1][:, [1, 2, 0]])
    pd.read_parquet(tmp_path / "all.parquet").query("method == 'a'").drop(columns="method").to_parquet(tmp_path / "one.parquet")
    assert np.array_equal(read_scores(tmp_path / "one.parquet", [5, 4], [7, 9, 8]), found["a"])
    with pytest.raises(KeyError, match="no scores of 'c'; expected one of .'b', 'a'."):
        read_scores(tmp_path / "all.parquet", [5, 4], [7, 9, 8], "c")
    for queries, ids in (([6], [7]), ([5], [1])):
        with pytest.raises(KeyError, match="not in index|are in the"):
            read_scores(tmp_path / "all.parquet", queries, ids, "a")
    assert [(method, len(part)) for method, part in each_method(tmp_path / "all.parquet")] == [("b", 6), ("a", 6)]
    pd.read_parquet(tmp_path / "one.parquet").iloc[1:].to_parquet(tmp_path / "one.parquet")
    with pytest.raises(ValueError, match="lacks 1 of 6 scores"):
        read_scores(tmp_path / "one.parquet", [5, 4], [7, 9, 8])
    found["c"] = np.zeros((2, 2))
    with pytest.raises(ValueError):
        write_scores(tmp_path / "torn.parquet", found, [5, 4], [7, 9, 8])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["all.parquet", "one.parquet"]


def test_a_file_of_parts_is_whole_or_not_there(tmp_path) -> None:
    parts = torch.arange(10.0).reshape(5, 2)
    write_parts(tmp_path / "whole.npy", (5, 2), "float16", iter([parts[:2], parts[2:]]))
    assert np.load(tmp_path / "whole.npy").tolist() == parts.tolist()
    with pytest.raises(ValueError, match="2 rows came; expected 5"):
        write_parts(tmp_path / "short.npy", (5, 2), "float16", iter([parts[:2]]))
    assert [file.name for file in tmp_path.iterdir()] == ["whole.npy"]


def test_overlap_of_tops_on_a_case_done_by_hand() -> None:
    wanted, scores_ = np.array([[4.0, 3, 2, 1], [1, 2, 3, 4]]), np.array([[4.0, 1, 3, 2], [4, 3, 2, 1]])
    assert overlap(scores_, wanted, 2).tolist() == [0.5, 0.0]
    assert found_among(scores_, wanted, 3, 2).tolist() == [0.5, 0.5] and found_among(scores_, wanted, 4, 2).tolist() == [1.0, 1.0]
