"""What a task is named by: every module that its function reaches, every byte that it is given."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from helpers import tiny_unet
from torch import nn

import abu
from abu.baselines.features import feature_task
from abu.core.attribution import Attribution, curvature_of, losses_of, store_of, unlearn_query
from abu.data.queries import Queries
from abu.data.rows import Rows, Stored
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.unet import select_weights
from abu.judge.retrain import answer, ask, retrain
from abu.study import keys
from abu.study.keys import key, key_of, reached

SOURCES = Path(abu.__file__).parent
TASKS = (losses_of, curvature_of, store_of, unlearn_query, feature_task, retrain, ask, answer)

WEIGHTS = ("conv_in.weight", "conv_out.bias")


def names(function) -> set[str]:
    """Modules that a function reaches, as ROOM/FILE."""
    return {
        f"{path.parent.name}/{path.stem}" for path in reached(Path(function.__code__.co_filename))
    }


def test_modules_that_were_once_forgotten_are_reached() -> None:
    assert {"core/attribution", "diffusion/attention", "diffusion/unet"} <= names(losses_of)
    assert {"judge/retrain", "diffusion/sample", "diffusion/noise"} <= names(ask)
    assert not {"report", "study", "judge"} & {name.split("/")[0] for name in names(losses_of)}


def test_the_source_of_what_is_given_counts(tmp_path, monkeypatch, shared) -> None:
    """A task's function need not import the class of its arrays on disk."""
    np.save(tmp_path / "rows.npy", np.zeros((3, 2, 4), np.float32))
    rows, read, seen = Rows(Stored(tmp_path / "rows.npy")), keys.of_file, set()
    monkeypatch.setattr(keys, "of_file", lambda path: seen.add(path) or read(path))
    key_of(losses_of, replace(shared, images=replace(shared.images, latents=rows)))
    assert SOURCES / "data/rows.py" in seen


@pytest.mark.parametrize("function", TASKS, ids=lambda function: function.__name__)
def test_an_edit_of_any_reached_module_gives_another_key(function, tmp_path, monkeypatch) -> None:
    copy = tmp_path / "abu"
    shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("__pycache__"))
    start = Path(function.__code__.co_filename).relative_to(SOURCES)
    monkeypatch.setattr(keys, "reached", lambda path: reached(copy / start, copy))
    found = {key_of(function, None)}
    modules = reached(copy / start, copy)
    for number, path in enumerate(modules):
        path.write_text(path.read_text() + "\n# edited\n")
        found.add(key_of(function, None))
        assert len(found) == number + 2, path
    outside = next(path for path in copy.rglob("*.py") if path not in modules)
    outside.write_text(outside.read_text() + "\n# edited\n")
    assert key_of(function, None) in found


@pytest.fixture
def shared(unet, images, grid) -> Attribution:
    denoiser = Denoiser(unet, DDIMScheduler(), select_weights(unet, "cross-attn-kv"))
    curvature = {name: torch.ones(2, 3) for name in denoiser.weights}
    regions = [torch.ones(8, 8), None]
    queries = Queries(["one", "two"], images.latents[:2, 0], images.texts[:2, 0], regions)
    return Attribution(denoiser, images, grid, curvature, queries)


def test_one_element_of_each_array_that_tasks_share_gives_another_key(shared) -> None:
    tensors = [shared.images.latents, shared.images.texts, shared.queries.latents]
    tensors += [shared.queries.texts, shared.queries.regions[0], *shared.curvature.values()]
    tensors += [shared.denoiser.unet.get_parameter(name).data for name in WEIGHTS]
    before = key_of(losses_of, shared)
    for tensor in tensors:
        kept = tensor.clone()
        tensor[(-1,) * tensor.ndim] += 1
        assert key_of(losses_of, shared) != before
        if tensor.numel() > 1:
            tensor.copy_(kept)
            tensor[(0,) * tensor.ndim] += 1
            tensor[(-1,) * tensor.ndim] -= 1
            assert key_of(losses_of, shared) != before
        tensor.copy_(kept)
    assert key_of(losses_of, shared) == before


def test_what_tasks_share_counts_but_for_where_they_run(shared) -> None:
    images, queries, denoiser = shared.images, shared.queries, shared.denoiser
    others = [
        replace(shared, images=images[[1, 0, 2, 3, 4]]),
        replace(shared, images=replace(images, ids=[*images.ids[1:], 1])),
        replace(shared, queries=replace(queries, names=["one", "three"])),
        replace(shared, queries=replace(queries, regions=[None, None])),
        replace(shared, grid=replace(shared.grid, seed=1)),
        replace(shared, denoiser=replace(denoiser, weights=denoiser.weights[1:])),
        replace(shared, denoiser=replace(denoiser, speed={"precision": "tf32"})),
    ]
    assert len({key_of(losses_of, each) for each in [shared, *others]}) == 1 + len(others)
    elsewhere = replace(shared, denoiser=replace(denoiser, device="cuda:1", batch_size=1))
    assert key_of(losses_of, elsewhere) == key_of(losses_of, shared)
    assert key_of(curvature_of, shared) != key_of(losses_of, shared)


def arrays() -> dict:
    values = torch.arange(12.0).reshape(3, 4)
    return {"tensor": values, "float64": values.double().numpy(), "int": np.arange(5)}


@pytest.mark.parametrize("name", arrays())
def test_one_element_or_two_that_keep_the_sum_give_another_key(name: str) -> None:
    before, changed, swapped = arrays(), arrays(), arrays()
    changed[name].reshape(-1)[1] += 1
    swapped[name].reshape(-1)[1] += 1
    swapped[name].reshape(-1)[2] -= 1
    assert float(swapped[name].sum()) == float(before[name].sum())
    assert len({key(before), key(changed), key(swapped)}) == 3 and key(before) == key(arrays())


@dataclass
class Holder:
    values: torch.Tensor
    note: str = field(default="", metadata={"hashed": False})


def test_everything_that_is_held_counts(tmp_path: Path) -> None:
    model, scheduler = nn.Linear(2, 2), DDIMScheduler(prediction_type="v_prediction")
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros((3, 2, 4), np.float32))
    rows = Rows(Stored(path))
    found = [
        key(Holder(torch.ones(2))),
        key(model),
        key(scheduler),
        key(rows),
        key([1, [2]], {"a": None}),
    ]
    assert found[0] == key(Holder(torch.ones(2), "elsewhere"))
    with torch.no_grad():
        model.weight[0, 0] += 1
    scheduler.register_to_config(prediction_type="epsilon")
    array = np.zeros((3, 2, 4), np.float32)
    array[2, 1, 3] = 1
    np.save(path, array)
    after = [
        key(Holder(torch.zeros(2))),
        key(model),
        key(scheduler),
        key(Rows(Stored(path))),
        key([1, 2], {"a": None}),
    ]
    assert all(a != b for a, b in zip(found, after))
    assert key(rows[[0, 1]]) != key(rows[[1, 0]]) and key(rows[:, :1]) != key(rows)
    assert key(1) != key(True) and key(1) != key("1") and key(1.0) != key(1)


def test_the_order_of_options_that_were_left_out_does_not_count() -> None:
    """diffusers lists them as a set gives them, which differs from process to process."""
    one, other = tiny_unet(), tiny_unet()
    unset = one.config["_use_default_values"]
    other.register_to_config(_use_default_values=unset[::-1])
    assert len(unset) > 1 and key(one) == key(other)
    other.register_to_config(_use_default_values=unset[1:])
    assert key(one) != key(other)


def test_what_has_no_name_is_refused() -> None:
    for nameless in (object(), iter([1]), np.array([object()])):
        with pytest.raises(TypeError, match="has no name|array of objects"):
            key(nameless)
