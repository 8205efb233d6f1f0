"""Named tasks: finished ones are kept, and Ray gives what this process gives."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from test_data import UNET, components, records  # noqa: F401  (fixtures)
from test_math import IDS, TIMESTEPS, data, unet  # noqa: F401

from abu.core.curvature import eigenbasis
from abu.core.fisher import fisher_diagonal, query_gradient
from abu.core.jobs import (
    Attributed,
    by_weight,
    curvature_of,
    eigenvalues_of,
    flat,
    gradient_of,
    influence_of,
    linear_of,
    losses_of,
    move_of,
    rescore,
    shapes_of,
    shards,
    unflatten,
    unit_moves,
    unlearn_query,
)
from abu.core.regions import box
from abu.core.unlearn import moved
from abu.data.rows import Rows, Stored
from abu.diffusion.losses import loss_table
from abu.diffusion.sample import sample
from abu.diffusion.train import train
from abu.diffusion.unet import select_weights
from abu.judge.retrain import Questions, Recipe, ask, retrain
from abu.study.tasks import run_tasks


def multiply(shared: torch.Tensor, factor: int, log: str) -> torch.Tensor:
    with open(log, "a") as file:
        file.write(f"{factor}\n")
    if factor == 13:
        raise ValueError("unlucky")
    return shared * factor


def die_once(shared: torch.Tensor, factor: int, mark: str) -> torch.Tensor:
    """The first worker that gets here is killed in mid-task."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return shared * factor


def values(results: dict) -> dict[str, list]:
    return {name: result.value.tolist() for name, result in results.items()}


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    environment = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}  # workers import the functions below
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


def test_finished_tasks_are_kept_and_a_failure_loses_only_its_own(tmp_path: Path) -> None:
    shared, log, folder = torch.arange(3.0), tmp_path / "log", tmp_path / "tasks"
    tasks = {str(f): (f, str(log)) for f in (2, 3, 13, 4)}
    with pytest.raises(ValueError, match="unlucky"):
        run_tasks(multiply, shared, tasks, scratch=folder)
    assert sorted(path.name.split("-")[0] for path in folder.rglob("*.npz")) == ["2", "3"]
    found = run_tasks(multiply, shared, {name: tasks[name] for name in ("4", "3", "2")}, scratch=folder)
    assert log.read_text().split() == ["2", "3", "13", "4"]
    assert values(found) == {"4": [0, 4, 8], "3": [0, 3, 6], "2": [0, 2, 4]} and list(found) == ["4", "3", "2"]
    assert found["4"].seconds > 0
    assert list(run_tasks(multiply, shared, {"9": (9, str(log)), "2": (2, str(log))}, scratch=folder, hours=0)) == ["2"]
    with pytest.raises(ValueError, match="engine is 'spark'"):
        run_tasks(multiply, shared, tasks, scratch=folder, engine="spark")


def test_ray_gives_the_same_and_keeps_what_is_finished(tmp_path: Path, cluster) -> None:
    shared, log = torch.arange(4.0), tmp_path / "log"
    tasks = {str(f): (f, str(log)) for f in range(5)}
    here = run_tasks(multiply, shared, tasks, scratch=tmp_path / "here")
    there = run_tasks(multiply, shared, tasks, scratch=tmp_path / "there", engine="ray")
    assert values(here) == values(there) and list(there) == list(tasks)
    assert len(log.read_text().split()) == 10
    run_tasks(multiply, shared, tasks, scratch=tmp_path / "there", engine="ray")
    assert len(log.read_text().split()) == 10
    with pytest.raises(ValueError, match="unlucky"):
        run_tasks(multiply, shared, {"13": (13, str(log))}, scratch=tmp_path / "there", engine="ray")


def test_a_task_whose_worker_is_killed_is_run_again(tmp_path: Path, cluster) -> None:
    shared, mark = torch.arange(4.0), tmp_path / "mark"
    there = run_tasks(die_once, shared, {"a": (2, str(mark)), "b": (3, str(mark))}, scratch=tmp_path / "there", engine="ray")
    assert mark.exists()
    assert values(there) == values(run_tasks(die_once, shared, {"a": (2, str(mark)), "b": (3, str(mark))}, scratch=tmp_path / "here"))


@pytest.fixture
def shared(unet, data) -> Attributed:  # noqa: F811
    latents, texts = data
    weights = select_weights(unet, "cross-attn-kv")
    fisher = {name: torch.rand(unet.get_parameter(name).shape).double() for name in weights}
    queries = latents[:2, 0] + 0.5, texts[:2, 0], ["one", "two"]
    scheduler = DDIMScheduler(prediction_type="v_prediction")  # noqa: F811
    return Attributed(unet, scheduler, weights, latents, texts, IDS, TIMESTEPS, 0, 4, "cpu", 2, fisher, queries)


def test_shards_together_are_the_whole(shared: Attributed) -> None:
    s, ranges = shared, shards(len(IDS), 2)
    assert ranges == {"0-2": (0, 2), "2-4": (2, 4), "4-5": (4, 5)}
    whole = loss_table(s.unet, s.scheduler, s.latents, s.texts, IDS, TIMESTEPS, 0, 64)
    assert torch.allclose(torch.cat([losses_of(s, *r) for r in ranges.values()]), whole, atol=1e-6)
    example = lambda i, flip, caption: (s.latents[i, flip % 2], s.texts[i, caption % 2])
    fisher = fisher_diagonal(s.unet, s.scheduler, s.weights, example, IDS, 3, seed=0, batch_size=64)
    found = unflatten(sum(curvature_of(s, 3, "ekfac", *r) for r in ranges.values()) / 15, shapes_of(s, "ekfac"))
    for name in s.weights:
        assert torch.allclose(found[name], fisher[name], rtol=1e-4, atol=1e-12)
    s = replace(s, curvature=eigenbasis({name: value for name, value in found.items() if name not in s.weights}))
    values = unflatten(sum(eigenvalues_of(s, 3, *r) for r in ranges.values()) / 15, shapes_of(s, "values"))
    for name in s.weights:  # a rotation keeps the sum of the squares
        assert torch.allclose(values[f"{name}.values"].sum(), fisher[name].sum(), rtol=1e-4)


def test_stages_of_an_answer_agree(shared: Attributed) -> None:
    """What is computed apart (gradients, unit moves, a part of the images) is what unlearning a query does at once."""
    s, size = shared, len(IDS) * 2 * 2 * len(TIMESTEPS)
    whole = unlearn_query(s, 1, 2, "diagonal", 0.1, {"relative_norm": 0.1})
    gradients = torch.stack([gradient_of(s, q, 2) for q in range(2)])
    deltas = 0.1 * unit_moves(s, gradients, "diagonal", 0.1)
    part = rescore(s, [3, 1], deltas[1])
    assert torch.allclose(part, whole[1 : 1 + size].reshape(len(IDS), 2, 2, -1)[[3, 1]], rtol=1e-4, atol=1e-6)
    found = unflatten(curvature_of(s, 2, "ekfac", 0, len(IDS)), shapes_of(s, "ekfac"))
    plus = replace(s, curvature=eigenbasis({name: value for name, value in found.items() if name not in s.weights}))
    plus.curvature.update(unflatten(eigenvalues_of(plus, 2, 0, len(IDS)), shapes_of(s, "values")))
    moved = rescore(plus, [0], 0.1 * unit_moves(plus, gradients, "ekfac", 0.1)[1])
    ekfac = unlearn_query(plus, 1, 2, "ekfac", 0.1, {"relative_norm": 0.1})
    assert torch.allclose(moved.flatten(), ekfac[1 : 1 + moved.numel()], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(ekfac[1 : 1 + size], whole[1 : 1 + size], rtol=1e-4)
    both, linear = influence_of(s, deltas, 2, 1, 4), linear_of(s, deltas, 1, 4)
    assert both.shape == (2, 3, 2, 2, 3, 3) and torch.allclose(both[..., 0].mean(4), linear, rtol=1e-3, atol=1e-7)
    assert torch.equal(torch.cat([by_weight(s, deltas)[name].flatten(1) for name in s.weights], 1), deltas)


def test_shards_of_two_machines_merge_to_the_bytes_of_one(tmp_path: Path, shared: Attributed) -> None:
    for task, arguments in (losses_of, ()), (curvature_of, (2, "ekfac")):
        tasks = {name: (*arguments, *part) for name, part in shards(len(IDS), 2).items()}
        one, two, three = (tmp_path / task.__name__ / name for name in ("one", "two", "three"))
        merge = lambda folder, wanted: torch.cat([r.value.flatten() for r in run_tasks(task, shared, wanted, scratch=folder).values()])
        whole = merge(one, tasks)
        merge(three, {name: tasks[name] for name in ("4-5", "0-2")})
        merge(two, {"2-4": tasks["2-4"]})
        shutil.copytree(three, two, dirs_exist_ok=True)
        assert torch.equal(merge(two, tasks), whole)
        left = run_tasks(task, shared, tasks, scratch=two, hours=0)
        assert left.keys() == tasks.keys(), "nothing is left to run"


def test_a_region_is_unlearned_more_than_the_rest(shared: Attributed) -> None:
    """Driven up in its left half alone, a query's loss rises there more than elsewhere; the whole picture's step is another one."""
    left = box([0, 0, 0.5, 1], (8, 8))
    s = replace(shared, regions=(left, None))
    ask = lambda q, key, draws, region: query_gradient(
        s.unet, s.scheduler, s.weights, s.queries[0][q], s.queries[1][q], key, s.timesteps, draws, 4, region
    )
    for q, region in enumerate(s.regions):
        expected = ask(q, (0, "unlearn", s.queries[2][q], 0), 2, region)[1]
        assert torch.allclose(gradient_of(s, q, 2), flat(expected, s.weights), rtol=1e-4, atol=1e-8)
    rises, move = {}, move_of(s, 0, 8, "identity", 0.0, {"relative_norm": 0.02})
    for name, region in {"left": left, "right": 1 - left}.items():
        loss = lambda: ask(0, (9,), 8, region)[0]
        before = loss()
        with moved(s.unet, move):
            rises[name] = loss() - before
    assert rises["left"] > 0 and rises["left"] > rises["right"]


def test_ray_caches_and_unlearns_as_this_process_does(tmp_path: Path, shared: Attributed, cluster) -> None:
    torch.set_num_threads(1)  # as a task on Ray
    for name in ("latents", "texts"):
        np.save(tmp_path / f"{name}.npy", getattr(shared, name))
    shared = replace(shared, **{name: Rows(Stored(tmp_path / f"{name}.npy")) for name in ("latents", "texts")})  # sent by their paths
    step = (1, 2, "diagonal", 0.1, {"steps": 2, "relative_norm": 0.1})
    for task, arguments in (losses_of, (0, 3)), (curvature_of, (2, "ekfac", 1, 4)), (unlearn_query, step):
        here, there = (
            run_tasks(task, shared, {"task": arguments}, scratch=tmp_path / engine, engine=engine)["task"].value
            for engine in ("process", "ray")
        )
        assert torch.equal(here, there) and torch.isfinite(here).all(), task.__name__


def test_retraining_is_train_without_the_images(tmp_path: Path, prepared, components, cluster) -> None:  # noqa: F811
    torch.set_num_threads(1)
    config = UNET | {"cross_attention_dim": prepared.texts.shape[-1]}
    options = {"steps": 3, "batch_size": 4, "lr": 1e-3, "warmup": 1, "seed": 0}
    ids = prepared.ids[:-1]
    recipe = Recipe(prepared, components.scheduler, config, options, ids, "cpu")
    tasks = {"a": (ids[:2], 0), "b": (ids[:2], 1)}
    here, there = (run_tasks(retrain, recipe, tasks, scratch=tmp_path / e, engine=e) for e in ("process", "ray"))
    unet, *_ = train(prepared, components.scheduler, config, ids[2:], **options, progress="")  # noqa: F811
    flat = torch.cat([p.flatten() for p in unet.parameters()])
    assert torch.equal(here["a"].value, flat) and torch.equal(there["a"].value, flat)
    assert torch.equal(here["b"].value, there["b"].value) and not torch.equal(here["b"].value, flat)
    with pytest.raises(KeyError, match="did not train on them"):
        retrain(recipe, [prepared.ids[-1]], 0)

    z, texts, names = prepared.latents[:2, 0], prepared.texts[:2, 0].float(), ["x", "y"]
    questions = Questions(z, texts, names, [100, 700], {"steps": 2, "guidance": 2.0, "eta": 1.0}, 0, 4)
    answer = ask((recipe, questions), flat)
    table = loss_table(unet, components.scheduler, z[:, None], texts[:, None], ["query x", "query y"], [100, 700], 0, 64)
    assert torch.allclose(answer[:, 0], table.mean((1, 2, 3)), atol=1e-6)
    drawn = sample(unet, components.scheduler, texts, prepared.empty, [(0, "query", n) for n in names], tuple(z.shape[1:]), 2, 2.0, 1.0)
    assert torch.allclose(answer[:, 1:].reshape(drawn.shape), drawn, atol=1e-5)
