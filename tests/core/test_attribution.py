"""The tasks of attribution: shards make the whole, stages agree, and Ray gives the same bytes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from helpers import IDS, TIMESTEPS

from abu.core.attribution import (
    Attribution,
    curvature_of,
    eigenvalues_of,
    forward_of,
    gradient_of,
    influence_of,
    losses_of,
    move_along,
    move_of,
    rescore,
    scores_of,
    shards,
    store_of,
    unit_moves,
    unlearn_query,
)
from abu.core.curvature import eigenbasis
from abu.core.fisher import fisher_diagonal, query_gradient
from abu.core.regions import box
from abu.core.store import leading, project
from abu.core.unlearn import Newton, moved, score
from abu.data.images import Images
from abu.data.queries import Queries
from abu.data.readers import Tensors
from abu.data.rows import Rows, Stored
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid
from abu.diffusion.losses import loss_table
from abu.diffusion.unet import select_weights
from abu.study.engines import Engine
from abu.study.tasks import run_tasks

NEWTON = Newton("diagonal", 0.1, draws=2, relative_norm=0.1)


@pytest.fixture
def shared(unet, images) -> Attribution:
    torch.manual_seed(0)
    weights = select_weights(unet, "cross-attn-kv")
    fisher = {name: torch.rand(unet.get_parameter(name).shape).double() for name in weights}
    scheduler = DDIMScheduler(prediction_type="v_prediction")
    queries = Queries(["one", "two"], images.latents[:2, 0] + 0.5, images.texts[:2, 0])
    denoiser = Denoiser(unet, scheduler, weights, batch_size=4)
    return Attribution(denoiser, images, Grid(TIMESTEPS, captions=2), fisher, queries)


def total(parts: list[Tensors], count: int) -> Tensors:
    return {name: sum(part[name] for part in parts) / count for name in parts[0]}


def with_ekfac(shared: Attribution, draws: int) -> Attribution:
    """The same with EK-FAC of its images beside the diagonal that it has."""
    sums, weights = curvature_of(shared, draws, "ekfac", 0, len(IDS)), shared.denoiser.weights
    basis = eigenbasis({name: value for name, value in sums.items() if name not in weights})
    plus = replace(shared, curvature=shared.curvature | basis)
    return replace(plus, curvature=plus.curvature | eigenvalues_of(plus, draws, 0, len(IDS)))


def test_shards_together_are_the_whole(shared: Attribution) -> None:
    ranges = shards(len(IDS), 2)
    assert ranges == {"0-2": (0, 2), "2-4": (2, 4), "4-5": (4, 5)}
    denoiser, weights = replace(shared.denoiser, batch_size=64), shared.denoiser.weights
    whole = loss_table(denoiser, shared.images, shared.grid)
    parts = torch.cat([losses_of(shared, *r)["losses"] for r in ranges.values()])
    assert torch.allclose(parts, whole, atol=1e-6)
    fisher = fisher_diagonal(denoiser, shared.images, 3)
    found = total([curvature_of(shared, 3, "ekfac", *r) for r in ranges.values()], 15)
    for name in weights:
        assert torch.allclose(found[name], fisher[name], rtol=1e-4, atol=1e-12)
    basis = eigenbasis({name: value for name, value in found.items() if name not in weights})
    rotated = replace(shared, curvature=basis)
    values = total([eigenvalues_of(rotated, 3, *r) for r in ranges.values()], 15)
    for name in weights:  # a rotation keeps the sum of the squares
        assert torch.allclose(values[f"{name}.values"].sum(), fisher[name].sum(), rtol=1e-4)


def test_stages_of_an_answer_agree(shared: Attribution) -> None:
    """What is computed apart (gradients, unit moves, a part of the images) is what unlearning a
    query does at once."""
    whole = unlearn_query(shared, 1, NEWTON)
    assert whole["relative_norm"].item() == pytest.approx(0.1)
    gradients = [gradient_of(shared, q, 2) for q in range(2)]
    gradients = {name: torch.stack([g[name] for g in gradients]) for name in gradients[0]}
    unit = unit_moves(shared, gradients, "diagonal", 0.1)
    deltas = {name: 0.1 * move for name, move in unit.items()}
    move = move_along(unit, 1, 0.1)
    assert all(torch.equal(move[name], deltas[name][1]) for name in deltas)
    few = rescore(shared, [3, 1], move)["losses"]
    assert torch.allclose(few, whole["losses"][[3, 1]], rtol=1e-4, atol=1e-6)
    plus = with_ekfac(shared, 2)
    unit = unit_moves(plus, gradients, "ekfac", 0.1)
    first = rescore(plus, [0], {name: 0.1 * move[1] for name, move in unit.items()})["losses"]
    ekfac = unlearn_query(plus, 1, replace(NEWTON, curvature="ekfac"))
    assert torch.allclose(first, ekfac["losses"][:1], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(ekfac["losses"], whole["losses"], rtol=1e-4)
    both = influence_of(shared, deltas, 2, 1, 4)
    assert both["linear"].shape == (2, 3, 2, 2, 3) and both["curved"].shape == (2, 3, 2, 2, 3, 2)
    exact = forward_of(shared, move, 1, 4)
    assert torch.allclose(exact["linear"], both["linear"][1:], rtol=1e-3, atol=1e-6)
    assert exact["curved"].shape == (1, 3, 2, 2, 3, 1)


def test_scores_are_of_the_images_that_each_move_was_asked_about() -> None:
    before, after = torch.rand(5, 2, 2, 3), torch.rand(2, 2, 2, 2, 3)
    rows = np.array([[3, 1], [0, 4]])
    found = scores_of(before, rows, [{"losses": losses} for losses in after])
    assert found.shape == (2, 2) and found.dtype == np.float64
    for q, i in np.ndindex(2, 2):
        image = int(rows[q, i])
        one = score(before[image : image + 1], after[q, i : i + 1])
        assert found[q, i] == pytest.approx(one.item())
    with pytest.raises(ValueError, match="zip"):
        scores_of(before, rows, [{"losses": after[0]}])


def test_shards_of_the_store_together_are_the_whole(shared: Attribution) -> None:
    plus = with_ekfac(shared, 2)
    basis = leading(plus.curvature, plus.denoiser.weights, 16)
    parts = [store_of(plus, basis, 2, *r)["store"] for r in shards(len(IDS), 2).values()]
    whole = project(plus.denoiser, basis, plus.images, plus.grid, 2)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-2, atol=1e-3)


def test_shards_of_two_machines_merge_to_the_bytes_of_one(tmp_path: Path, shared) -> None:
    for task, arguments in (losses_of, ()), (curvature_of, (2, "ekfac")):
        tasks = {name: (*arguments, *r) for name, r in shards(len(IDS), 2).items()}
        one, two, three = (tmp_path / task.__name__ / name for name in ("one", "two", "three"))

        def merge(folder: Path, names=tuple(tasks), task=task, tasks=tasks) -> list[Tensors]:
            wanted = {name: tasks[name] for name in names}
            done = run_tasks(task, shared, wanted, scratch=folder)
            return [result.tensors() for result in done.values()]

        whole = merge(one)
        merge(three, ("4-5", "0-2"))
        merge(two, ("2-4",))
        shutil.copytree(three, two, dirs_exist_ok=True)
        merged = merge(two)
        assert len(merged) == len(whole) == 3
        for a, b in zip(merged, whole):
            assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        left = run_tasks(task, shared, tasks, scratch=two, hours=0)
        assert left.keys() == tasks.keys(), "nothing is left to run"


def test_a_region_is_unlearned_more_than_the_rest(shared: Attribution) -> None:
    """Driven up in its left half alone, a query's loss rises there more than elsewhere; the whole
    picture's step is another one."""
    left = box([0, 0, 0.5, 1], (8, 8))
    asked = replace(shared, queries=replace(shared.queries, regions=(left, None)))
    queries, denoiser = asked.queries, asked.denoiser

    def ask(q: int, key: tuple, draws: int, region: torch.Tensor | None) -> tuple[float, Tensors]:
        given = queries.latents[q], queries.texts[q], key, TIMESTEPS, draws, region
        return query_gradient(denoiser, *given)

    for q, region in enumerate(queries.regions):
        expected = ask(q, (0, "unlearn", queries.names[q], 0), 2, region)[1]
        for name, gradient in gradient_of(asked, q, 2).items():
            assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-8)
    move = move_of(asked, 0, Newton("identity", 0.0, draws=8, relative_norm=0.02))
    rises = []
    for region in (left, 1 - left):
        before = ask(0, (9,), 8, region)[0]
        with moved(denoiser.unet, move):
            rises.append(ask(0, (9,), 8, region)[0] - before)
    assert rises[0] > 0 and rises[0] > rises[1]


@pytest.mark.slow
def test_ray_caches_and_unlearns_as_this_process_does(
    tmp_path: Path, shared: Attribution, cluster, one_thread
) -> None:
    for name in ("latents", "texts"):
        np.save(tmp_path / f"{name}.npy", getattr(shared.images, name))
    rows = [Rows(Stored(tmp_path / f"{name}.npy")) for name in ("latents", "texts")]
    shared = replace(shared, images=Images(IDS, *rows))  # sent by their paths
    step = (1, replace(NEWTON, steps=2))
    for task, arguments in (
        (losses_of, (0, 3)),
        (curvature_of, (2, "ekfac", 1, 4)),
        (unlearn_query, step),
    ):
        here, there = (
            run_tasks(task, shared, {"a": arguments}, Engine(name), scratch=tmp_path / name)["a"]
            for name in ("process", "ray")
        )
        here, there = here.tensors(), there.tensors()
        assert here.keys() == there.keys(), task.__name__
        for name, value in here.items():
            assert torch.equal(value, there[name]) and torch.isfinite(value).all(), name
