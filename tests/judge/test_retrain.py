"""Retraining is training without the images, wherever it runs; and what it makes of queries."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import UNET
from torch.nn.utils import parameters_to_vector

from abu.data.queries import Queries
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid
from abu.diffusion.losses import loss_table
from abu.diffusion.sample import sample
from abu.diffusion.train import Recipe, train
from abu.judge.retrain import Questions, Retraining, ask, retrain
from abu.study.tasks import Engine, run_tasks


@pytest.fixture
def shared(prepared, components) -> Retraining:
    """All prepared images but the last."""
    config = UNET | {"cross_attention_dim": prepared.texts.shape[-1]}
    recipe = Recipe(config, steps=3, batch_size=4, lr=1e-3, warmup=1)
    return Retraining(prepared, components.scheduler, recipe, prepared.ids[:-1], "cpu")


def test_retraining_is_train_without_the_images(shared: Retraining) -> None:
    ids = shared.train_ids
    unet, *_ = train(shared.data, shared.scheduler, shared.recipe, ids[2:], seed=0, progress="")
    weights = parameters_to_vector(unet.parameters())
    assert torch.equal(retrain(shared, ids[:2], 0)["weights"], weights)
    assert not torch.equal(retrain(shared, ids[:2], 1)["weights"], weights)


@pytest.mark.slow
def test_ray_retrains_as_this_process_does(
    tmp_path: Path, shared: Retraining, cluster, one_thread
) -> None:
    tasks = {str(seed): (shared.train_ids[:2], seed) for seed in (0, 1)}
    here, there = (
        run_tasks(retrain, shared, tasks, Engine(name), scratch=tmp_path / name)
        for name in ("process", "ray")
    )
    for name in tasks:
        assert torch.equal(here[name]["weights"], there[name]["weights"])


def test_images_that_the_model_did_not_train_on_cannot_be_removed(shared: Retraining) -> None:
    with pytest.raises(KeyError, match="did not train on them"):
        retrain(shared, [shared.data.ids[-1]], 0)


def test_a_model_is_asked_what_the_trained_one_is(shared: Retraining) -> None:
    data, scheduler, grid = shared.data, shared.scheduler, Grid([100, 700])
    queries = Queries(["x", "y"], data.latents[:2, 0], data.texts[:2, 0].float())
    sampler = {"steps": 2, "guidance": 2.0, "eta": 1.0}
    questions = Questions(queries, grid, sampler, batch_size=4)
    model = retrain(shared, shared.train_ids[:2], 0)
    answer, unet = ask((shared, questions), model), shared.unet(model["weights"])
    table = loss_table(Denoiser(unet, scheduler), queries.images(), grid)
    assert torch.allclose(answer["losses"], table.mean((1, 2, 3)), atol=1e-6)
    names = [(0, "query", name) for name in queries.names]
    shape = tuple(queries.latents.shape[1:])
    drawn = sample(unet, scheduler, queries.texts, data.empty, names, shape, **sampler)
    assert torch.allclose(answer["drawn"], drawn, atol=1e-5)
    another = replace(questions, grid=replace(grid, seed=1))
    assert not torch.equal(ask((shared, another), model)["losses"], answer["losses"])
