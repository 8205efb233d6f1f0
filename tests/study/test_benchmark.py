"""The preset of the published benchmark, made small, from end to end."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import stable_diffusion
from published import PROMPTS, benchmark
from studies import dvc, read, study_in

from abu import ROOT
from abu.core.attribution import rescore
from abu.data.pictures import read_image
from abu.data.published import model_name
from abu.diffusion.components import load_components
from abu.diffusion.deltas import WEIGHTS, load_customized
from abu.study.caching import load_cached
from abu.study.folders import results
from abu.study.system import load_queries, load_system

pytestmark = pytest.mark.slow
ART, FISH = map(model_name, (f"models/{name}" for name in PROMPTS))
KERNEL = {"ridge": 0.1}
SIZES = {  # all that the test changes of presets/abc.yaml
    "systems": {
        "base": {"kind": "reference"},
        **dict.fromkeys((ART, FISH), {"kind": "customized"}),
    },
    "common.threads": 1,
    "prepare.side": 32,
    "train.check": False,  # its weights are drawn, not trained
    "cache.*": {"fisher_draws": 2, "timesteps": [0, 500], "batch_size": 8, "shard": 6},
    "changes.customized.unlearn.steps": 2,
    "changes.customized.unlearn.gradient_draws": 1,
    "changes.customized.unlearn.batch_size": 8,
    "changes.customized.compare.features.dimension": 64,
    "changes.customized.compare.features.timesteps": [100, 900],
    "changes.customized.compare.settings": dict.fromkeys(("trak", "d-trak", "das"), KERNEL),
    "components.clip": "data/components/clip",
    "exemplars.*": {"k": 3, "top": 3, "shown": 2},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """``presets/abc.yaml`` on a small benchmark, by a real ``dvc repro exemplars``."""
    preset, root = ROOT / "presets/abc.yaml", tmp_path_factory.mktemp("published")
    study_in(root, preset, SIZES)
    unet = stable_diffusion(root / "external/sd-v1-4")
    benchmark(root / "external/abc", unet, load_components(root / "external/sd-v1-4"))
    dvc(root, "repro --quiet exemplars")
    return root


def test_its_models_are_those_of_the_preset() -> None:
    assert {ART, FISH} < set(read(ROOT / "presets/abc.yaml")["systems"])


def test_it_runs(study: Path) -> None:
    metrics = json.loads((study / "results/exemplars/metrics.json").read_text())
    methods = {"abu", "chance", "random", "pixel", "latent", "clip-image"}
    methods |= {"gradient-dot", "gradient-cosine", "trak", "d-trak", "das"}
    assert set(metrics) == methods
    rows = pd.read_csv(study / "results/exemplars/precision.csv")
    assert rows.groupby("method").size().eq(4).all() and set(rows.category) == {"style", "object"}
    scores = pd.read_parquet(study / f"results/unlearn/{ART}/scores.parquet")
    facts = json.loads((study / f"results/customize/{ART}/customized.json").read_text())
    assert facts["exemplar_ids"] == [12, 13, 14]
    assert set(scores.image_id) == set(range(15)) and np.isfinite(scores.score).all()
    trained = json.loads((study / "results/train/train.json").read_text())
    assert trained["source"] == "external/sd-v1-4" and trained["train_ids"] == list(range(12))


def test_a_model_keeps_all_of_its_tokens(study: Path) -> None:
    """The second one, under the U-Net's own names, as the benchmark's authors saved it."""
    folder = study / f"results/customize/{FISH}"
    assert json.loads((folder / "customized.json").read_text())["token"] == "<new1>+<new2>"
    theirs = study / "external/abc/models/imagenet/n01440764_0000"
    assert (theirs / f"{WEIGHTS}.pt").is_file() and not (theirs / f"{WEIGHTS}.bin").exists()
    given, kept = load_customized(theirs), load_customized(folder)
    for before, after in zip(given, kept):
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_nothing_is_asked_about_the_trained_model(study: Path) -> None:
    """Only the cache is needed of it; what no stage before ``exemplars`` needs has not run."""
    for stage in ("generate", "unlearn", "compare"):
        assert [path.name for path in (study / f"results/{stage}/base").iterdir()] == ["README.md"]
    assert not (study / "results/retrain").exists() and not (study / "results/tune/base").exists()


def test_query_exemplars_and_distractors_are_of_one_scale(study: Path) -> None:
    parts, name = load_components(study / "results/components/model"), [*PROMPTS][0]
    assert parts.vae.config.scaling_factor == 0.18215
    latents = lambda stage: np.load(study / f"results/{stage}/{ART}/latents.npy")
    for kept, path in (
        (latents("generate")[0], f"synth/{name}/samples/00000.png"),
        (latents("customize")[0, 0], f"exemplar/{name}/0.png"),
    ):
        pixels = torch.from_numpy(read_image(study / "external/abc" / path, 32))
        assert pixels.shape == (3, 32, 32), "three channels, whatever the file has"
        with torch.no_grad():
            mode = parts.vae.encode(pixels[None]).latent_dist.mode()[0]
        np.testing.assert_allclose(kept, 0.18215 * mode.numpy(), atol=1e-6)
    stored = np.load(study / "results/prepare/latents.npy")
    given = np.load(study / "external/abc/laion_latents.npy")
    np.testing.assert_array_equal(stored, given.reshape(2, 12, 4, 8, 8).swapaxes(0, 1))


def test_both_loss_passes_of_an_exemplar_meet_one_noise(study: Path, monkeypatch) -> None:
    """A move of no length changes no loss by a bit; and cached losses are those of the images'
    ids, whatever the batch."""
    monkeypatch.chdir(study)
    system = load_system(FISH)
    cached = load_cached(system, 0, 8, torch.device("cpu"), {"precision": "float32"})
    assert cached.losses.shape == (13, 2, 1, 2)
    shared = replace(cached.attribution, queries=load_queries(FISH)[1])
    still = {name: torch.zeros(shape) for name, shape in shared.shapes().items()}
    rows = range(len(system.images))
    assert torch.equal(rescore(shared, rows, still)["losses"], cached.losses)
    single = replace(shared, denoiser=replace(shared.denoiser, batch_size=1)).losses()
    np.testing.assert_allclose(single, cached.losses, rtol=1e-4, atol=1e-6)
    rises = np.load(results("unlearn", FISH) / "rises.npy")
    assert rises.shape == (2, *cached.losses.shape)
    assert 0 < np.abs(rises).max() < cached.losses.mean()


def test_a_system_refuses_what_belongs_to_another(study: Path, monkeypatch) -> None:
    monkeypatch.chdir(study)
    system, base = load_system(ART), load_system()
    assert system.table.exemplar.tolist() == [True] * 3 + [False] * 12
    assert len(system.images) == 15 and system.images.ids[:3] == [12, 13, 14]
    assert torch.equal(system.images.texts[3:][:, 0], base.images.texts[:, 0])
    assert torch.equal(system.images.latents[3:][:, 1], base.images.latents[:, 1])
    with pytest.raises(FileNotFoundError, match="no customized model 'bamfg-2'"):
        load_system("bamfg-2")
    facts = study / "results/train/train.json"
    text = facts.read_text()
    facts.write_text(text.replace(json.loads(text)["model"], "another"))
    try:
        with pytest.raises(ValueError, match='customized.json: base is .*; expected "another"'):
            load_system(ART)
    finally:
        facts.write_text(text)
