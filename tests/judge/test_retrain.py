"""Retraining is training without the images, wherever it runs; and what it makes of queries."""

from pathlib import Path

import pytest
import torch
from helpers import UNET
from torch.nn.utils import parameters_to_vector

from abu.data.images import Images
from abu.data.queries import Queries
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid
from abu.diffusion.losses import loss_table
from abu.diffusion.sample import sample
from abu.diffusion.train import Recipe, train
from abu.judge.retrain import Questions, Retraining, answer, pictures_asked, retrain
from abu.study.engines import Engine
from abu.study.tasks import run_tasks


@pytest.fixture
def shared(prepared, components) -> Retraining:
    """All prepared images but the last."""
    config = UNET | {"cross_attention_dim": prepared.texts.shape[-1]}
    recipe = Recipe(config, steps=3, batch_size=4, lr=1e-3, warmup=1, muon_lr=0.01)
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
    data, scheduler = shared.data, shared.scheduler
    queries = Queries(["x", "y"], data.latents[:2, 0], data.texts[:2, 0].float())
    more = Images(data.ids[3:5], data.latents[3:5], data.texts[3:5])
    asked = pictures_asked(queries, more)
    assert asked.ids == ["query x", "query y", *data.ids[3:5]]
    sampler = {"steps": 2, "guidance": 2.0, "eta": 1.0}
    questions = Questions(asked, queries, [100, 700], [4, 5], 0, sampler, batch_size=4)
    found = answer((shared, questions), shared.train_ids[:2], 0)
    model = retrain(shared, shared.train_ids[:2], 0)
    assert torch.equal(found["training"], model["training"]) and len(model["training"]) == 3
    unet = shared.unet(model["weights"])
    for e, seed in enumerate((4, 5)):
        grid, denoiser = Grid([100, 700], seed, captions=1, flips=False), Denoiser(unet, scheduler)
        own = loss_table(denoiser, queries.images(), grid), loss_table(denoiser, more, grid)
        table = torch.cat(own)[:, 0, 0]
        assert torch.allclose(found["losses"][..., e], table, atol=1e-6)
    names = [(0, "query", name) for name in queries.names]
    shape = tuple(queries.latents.shape[1:])
    drawn = sample(unet, scheduler, queries.texts, data.empty, names, shape, **sampler)
    assert torch.allclose(found["drawn"], drawn, atol=1e-5)


def test_the_first_steps_of_a_retraining_are_those_of_the_whole(shared: Retraining) -> None:
    whole = retrain(shared, shared.train_ids[:2], 0)["training"]
    assert torch.equal(retrain(shared, shared.train_ids[:2], 0, stop=2)["training"], whole[:2])
