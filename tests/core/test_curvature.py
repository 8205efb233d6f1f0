"""EK-FAC: against dense algebra and another library."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from abu.core.curvature import eigenbasis, factors, precondition, rotated_squares, summed
from abu.core.fisher import per_example
from abu.core.taps import Taps
from abu.diffusion.noise import normal


def test_ekfac_equals_dense_algebra(denoiser, images) -> None:
    weights = denoiser.weights[:2]
    walk = lambda size=64: per_example(
        replace(denoiser, weights=weights, batch_size=size), images, draws=2
    )
    basis = eigenbasis(summed(walk(4), partial(factors, weights=weights)))
    sums = summed(walk(3), partial(rotated_squares, weights=weights, basis=basis))
    cached = basis | {name: value / 10 for name, value in sums.items()}
    for name in weights:
        g = torch.cat([taps.gradient(name) for taps in walk()]).double()  # [10, O, I]
        left, right = basis[f"{name}.outputs"], basis[f"{name}.inputs"]
        rotation = torch.kron(left, right)  # columns: eigenvectors of the product, row-major
        fisher = g.flatten(1).T @ g.flatten(1) / 10
        exact = (rotation.T @ fisher @ rotation).diagonal().reshape(g.shape[1:])
        atol = 1e-6 * float(exact.max())
        torch.testing.assert_close(cached[f"{name}.values"], exact, rtol=1e-3, atol=atol)
        gradient = {name: normal(tuple(g.shape[1:]), "g", name)}
        damped = rotation @ torch.diag(exact.flatten() + 0.1 * exact.mean()) @ rotation.T
        solved = torch.linalg.solve(damped, gradient[name].double().flatten()).reshape(g.shape[1:])
        found = precondition("ekfac", gradient, cached, 0.1)[name].double()
        torch.testing.assert_close(found, solved, rtol=1e-3, atol=1e-4 * float(solved.abs().max()))
        torch.testing.assert_close(torch.eye(len(left), dtype=left.dtype), left.T @ left)
        tokens = torch.cat([taps.tokens(name)[0] for taps in walk()]).double().flatten(0, 1)
        spread = right.T @ (tokens.T @ tokens) @ right
        diagonal, most = spread.diagonal(), float(spread.max())
        torch.testing.assert_close(spread, torch.diag(diagonal), rtol=1e-4, atol=1e-4 * most)
        assert diagonal.diff().max() <= 1e-6 * most  # from the largest


def test_ekfac_agrees_with_kronfluence(tmp_path) -> None:
    """A regression network, whose empirical Fisher another library fits too: the same
    preconditioned gradient."""
    pytest.importorskip("kronfluence")
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments
    from kronfluence.task import Task

    torch.manual_seed(0)
    x, y = torch.randn(40, 5, 6), torch.randn(40, 5, 3)
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Tanh(), nn.Linear(4, 3, bias=False))
    weights = ["0.weight", "2.weight"]

    def batches():
        for start in range(0, 40, 10):
            with Taps(model, weights) as taps:
                part = slice(start, start + 10)
                taps.backward((model(x[part]) - y[part]).square().sum())
            yield taps

    basis = eigenbasis(summed(batches(), partial(factors, weights=weights)))
    sums = summed(batches(), partial(rotated_squares, weights=weights, basis=basis))
    cached = basis | {name: value / 40 for name, value in sums.items()}

    class Regression(Task):
        def compute_train_loss(self, batch, model, sample=False):
            return (model(batch[0]) - batch[1]).square().sum()

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    other = prepare_model(copy.deepcopy(model), Regression())
    options = {"cpu": True, "output_dir": str(tmp_path), "disable_tqdm": True}
    analyzer = Analyzer("regression", other, Regression(), **options)
    analyzer.fit_all_factors(
        "factors",
        torch.utils.data.TensorDataset(x, y),
        per_device_batch_size=10,
        factor_args=FactorArguments("ekfac", use_empirical_fisher=True),
        overwrite_output_dir=True,
    )
    eigen = analyzer.load_eigendecomposition("factors")
    values = analyzer.load_lambda_matrices("factors")
    for name in weights:
        layer = name.removesuffix(".weight")
        theirs = {
            f"{name}.outputs": eigen["gradient_eigenvectors"][layer].double(),
            f"{name}.inputs": eigen["activation_eigenvectors"][layer].double(),
            f"{name}.values": values["lambda_matrix"][layer].double()
            / values["num_lambda_processed"][layer],
        }
        one, two = (found[f"{name}.values"].sum() for found in (cached, theirs))
        torch.testing.assert_close(one, two, rtol=1e-4, atol=0)
        gradient = {name: normal(tuple(model.get_parameter(name).shape), name)}
        one, two = (precondition("ekfac", gradient, c, 0.1)[name] for c in (cached, theirs))
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3 * float(two.abs().max()))


def test_curvature_says_what_is_missing() -> None:
    gradient = {"a.weight": torch.ones(2, 2)}
    assert precondition("identity", gradient, {}, 0.1) is gradient
    with pytest.raises(ValueError, match="curvature is 'kfac'; expected one of"):
        precondition("kfac", gradient, {}, 0.1)
    for kind in ("diagonal", "ekfac"):
        with pytest.raises(KeyError, match=f"no {kind} curvature for a.weight"):
            precondition(kind, gradient, {}, 0.1)
    basis = {"a.weight.outputs": torch.eye(2), "a.weight.inputs": torch.eye(2)}
    with pytest.raises(ValueError, match="zeros: give a damping"):
        precondition("ekfac", gradient, basis | {"a.weight.values": torch.zeros(2, 2)}, 0.1)
    with Taps(nn.Sequential(nn.Linear(2, 2)), ["0.bias"]) as taps:
        taps.layers["0"](torch.ones(1, 2))
    with pytest.raises(TypeError, match="0.bias is not the weight of a Linear layer"):
        summed([taps], partial(factors, weights=["0.bias"]))


def test_a_diagonal_with_zeros_or_without_a_weight_is_refused() -> None:
    gradient = {"w": torch.ones(2)}
    with pytest.raises(ValueError, match="zeros: give a damping"):
        precondition("diagonal", gradient, {"w": torch.tensor([1.0, 0.0])}, 0.0)
    with pytest.raises(ValueError, match="zeros"):
        precondition("diagonal", gradient, {"w": torch.zeros(2)}, 0.1)
    with pytest.raises(KeyError):
        precondition("diagonal", gradient, {"v": torch.ones(2)}, 0.1)
