"""What earlier stages left of a system, read back: the model, its queries, its cache."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from studies import read

from abu.core.attribution import losses_of, rescore
from abu.diffusion.unet import load_unet
from abu.study.caching import (
    every_timestep,
    load_cached,
    load_store,
    newton_chosen,
    plan_cache,
    read_cache,
    spread,
)
from abu.study.evidence import evidence_of
from abu.study.folders import results
from abu.study.run import parameters
from abu.study.system import load_queries, load_system, sampler_of

SPEED = {"precision": "float32"}
SYSTEMS = ("base", "panda")
by_system = pytest.mark.parametrize("name", SYSTEMS)


@pytest.fixture(autouse=True)
def here(tiny: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tiny)
    return tiny


def cached_of(name: str):
    return load_cached(load_system(name), 0, 16, torch.device("cpu"), SPEED)


def test_a_customized_system_has_its_exemplars_before_the_trained_images(here: Path) -> None:
    base, panda = load_system(), load_system("panda")
    assert base.images.ids == base.trained["train_ids"] == base.table.id.tolist()
    assert panda.images.ids == panda.customized["exemplar_ids"] + base.images.ids
    count = len(panda.customized["exemplar_ids"])
    assert panda.table.exemplar.tolist() == [True] * count + [False] * len(base.images)
    assert torch.equal(panda.images.latents[count:][:, 1], base.images.latents[:, 1])
    assert torch.equal(panda.images.texts[count:][:, 0], base.images.texts[:, 0])
    weights, trained = panda.unet.state_dict(), load_unet("results/train/unet").state_dict()
    changed = {name for name, value in weights.items() if not torch.equal(value, trained[name])}
    assert changed == {name for name in weights if "attn2.to_k" in name or "attn2.to_v" in name}
    both = base.components.texts(["skull"]), panda.components.texts(["skull"])
    assert torch.equal(*both) and base.customized == {}
    assert "<new1>" in panda.components.tokenizer.get_vocab()
    assert base.facts["model"] != panda.facts["model"]
    with pytest.raises(FileNotFoundError, match="no customized model 'zebra'"):
        load_system("zebra")


def test_queries_that_tune_are_not_those_that_are_reported(here: Path) -> None:
    asked = read(here / "params.yaml")["generate"]
    (reported, z, pictures), (tuning, *_) = load_queries(), load_queries(tuning=True)
    assert tuning.prompt.tolist() == asked["tuning"]["plain"] and set(tuning.kind) == {"plain"}
    assert len(reported) == sum(map(len, asked["prompts"].values()))
    both = load_queries(tuning=None)[0]
    assert len(both) == len(reported) + len(tuning) and both["query"].tolist() == list(both.index)
    assert z.names == reported.name.tolist() and len(z) == len(pictures)
    texts = load_system().components.texts(reported.prompt.tolist())
    assert torch.allclose(z.texts, texts, atol=1e-5)
    assert sampler_of() == {"steps": 3, "guidance": 2.0, "eta": 1.0}


@by_system
def test_methods_look_at_captions_without_the_new_token(name: str, here: Path) -> None:
    system, asked = load_system(name), load_queries(name)
    features = {"weights": "cross-attn-kv", "timesteps": [500], "dimension": 32, "cotangents": 0}
    evidence = evidence_of(system, asked, features, 3, 16, None)
    seen, shared = evidence.seen, evidence.shared
    assert (shared.grid.timesteps, shared.grid.seed) == ([500], 3) and shared.queries is asked[1]
    assert shared.denoiser.device == "cpu" and evidence.sampler == sampler_of(name)
    without = lambda captions: [text.replace("<new1> ", "") for text in captions]
    assert seen.prompts == without(asked[0].prompt)
    assert seen.captions == [*map(without, system.captions)]
    assert len(seen.files) == len(system.images) == len(seen.captions)


@by_system
def test_a_cache_is_what_was_asked_for(name: str, here: Path) -> None:
    _, options = parameters("cache", {"system": name}, here)
    manifest, shared = plan_cache(load_system(name), options, 0, 16, "cpu", SPEED)
    assert manifest == json.loads((results("cache", name) / "manifest.json").read_text())
    losses = cached_of(name).losses
    assert losses.shape == shared.grid.shape(shared.images)
    again = losses_of(shared, 0, len(shared.images))["losses"]
    assert torch.allclose(again, losses, rtol=1e-4, atol=1e-6)


@by_system
def test_both_loss_passes_meet_one_noise(name: str) -> None:
    """A move of no length changes no loss by a bit."""
    cached = cached_of(name)
    shared = cached.attribution
    still = {weight: torch.zeros(shape) for weight, shape in shared.shapes().items()}
    assert torch.equal(rescore(shared, [3, 1], still)["losses"], rescored(shared, [3, 1]))
    after = rescore(shared, range(len(shared.images)), still)["losses"]
    assert torch.allclose(after, cached.losses, rtol=1e-4, atol=1e-6)


def rescored(shared, rows: list[int]) -> torch.Tensor:
    return replace(shared, images=shared.images[rows]).losses()


def test_fisher_information_is_that_of_the_trained_model() -> None:
    base, panda = (cached_of(name).attribution.curvature for name in SYSTEMS)
    assert base.keys() == panda.keys() and base
    assert all(torch.equal(value, panda[name]) for name, value in base.items())


def test_a_part_of_the_timesteps() -> None:
    cached = cached_of("base")
    half = every_timestep(cached, 2)
    assert half.attribution.grid.timesteps == cached.manifest["timesteps"][1::2]
    assert torch.equal(half.losses, cached.losses[..., 1::2])


@pytest.mark.parametrize("every", [1, 2, 3])
def test_both_loss_passes_meet_one_noise_at_a_part_of_the_timesteps(here: Path, every: int) -> None:
    cached = cached_of("base")
    grid = replace(cached.attribution.grid, timesteps=[100, 300, 500, 700, 900], spread=True)
    shared = replace(cached.attribution, grid=grid)
    whole = replace(cached, losses=shared.losses(), attribution=shared)
    part = every_timestep(whole, every)
    now = part.attribution.losses()  # of a model that was not moved
    torch.testing.assert_close(now, part.losses, rtol=1e-5, atol=1e-6)


def test_losses_under_another_noise_are_refused(here: Path) -> None:
    cached = cached_of("base")
    shared = cached.attribution
    other = replace(shared, grid=replace(shared.grid, seed=1)).losses()
    with pytest.raises(ValueError, match="off by up to .* of their mean .* expected at most 0.02"):
        every_timestep(replace(cached, losses=other), 1)


@pytest.mark.parametrize(
    ("count", "every", "expected"),
    [(10, 1, range(10)), (10, 2, [1, 3, 5, 7, 9]), (10, 5, [2, 7]), (10, 10, [5]), (2, 5, [1])],
)
def test_some_timesteps_stand_for_those_around_them(count, every, expected) -> None:
    assert spread(count, every) == list(expected)


def test_a_store_is_mapped_and_fits_its_manifest() -> None:
    cached = cached_of("base")
    (basis, store), manifest = load_store(cached), cached.manifest
    assert isinstance(store, np.memmap) and store.shape[-2:] == (1 + 2, 1024)
    assert len(basis.scale) == 1024
    with pytest.raises(ValueError, match="store.npy has the shape .*; its manifest says"):
        read_cache(results("cache"), manifest | {"store": 64}, "r", "store")


def test_what_a_step_leaves_open_is_as_tuned() -> None:
    chosen = json.loads((results("tune") / "chosen.json").read_text())
    tuned = {name: chosen["abu"][name] for name in ("damping", "rise")}
    assert newton_chosen({"draws": 2}, "abu") == {"draws": 2, **tuned}
    plus = newton_chosen({"damping": None, "relative_norm": 0.5}, "abu-plus")
    assert plus == {"damping": chosen["abu-plus"]["damping"], "relative_norm": 0.5}
    given = {"damping": 0.0, "alpha": 0.1, "relative_norm": None}
    assert newton_chosen(given, "nobody") == given
    assert "rise" not in newton_chosen({"alpha": 0.1}, "abu")
    assert newton_chosen(given, "abu", "panda") == given
    with pytest.raises(
        ValueError, match="changes.customized.unlearn makes .* of 'panda'; expected"
    ):
        newton_chosen({"alpha": 0.1, "damping": None}, "abu", "panda")
