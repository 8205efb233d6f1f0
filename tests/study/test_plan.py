"""Counts of the plan against calls that really count, bytes against files, times by hand."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from ruamel.yaml import YAML
from transformers import CLIPTextConfig

from abu import ROOT
from abu.core import attribution as core
from abu.core.curvature import eigenbasis
from abu.core.unlearn import Newton
from abu.data.captions import load_captions
from abu.data.images import Images
from abu.data.queries import Queries
from abu.diffusion.components import load_components
from abu.diffusion.encode import prepare
from abu.diffusion.grid import Grid
from abu.diffusion.noise import normal
from abu.judge.bank import plan_bank
from abu.judge.latin import plan_squares
from abu.judge.removals import leave_k_out
from abu.study import footprint, plan
from abu.study.presets import apply

load = YAML(typ="safe").load
KINDS = {*"losses fisher influence gradient features sample train prepare text".split()}


@pytest.fixture(autouse=True)
def study(monkeypatch) -> dict:
    monkeypatch.chdir(ROOT)
    return load(ROOT / "tests/params.yaml")


@pytest.fixture
def counted(monkeypatch):
    """Rows that a function sends through U-Nets."""
    seen, forward = [], UNet2DConditionModel.forward
    count = lambda self, x, *a, **b: seen.append(len(x)) or forward(self, x, *a, **b)
    monkeypatch.setattr(UNet2DConditionModel, "forward", count)

    def rows(run, *arguments) -> int:
        seen.clear()
        run(*arguments)
        return sum(seen)

    return rows


def stages(study: dict, system: str = "base", data=(12, 5)) -> dict[str, tuple]:
    """Work, bytes left and bytes held by stage."""
    bench = footprint.Bench(study, study["systems"][system]["kind"])
    return {name: row for name, *row in plan.stages(bench, system, *data, exemplars=2)}


def shared(study: dict) -> core.Attribution:
    """What the stages share: ten images of five captions, and four queries."""
    bench, c = footprint.Bench(study), study["cache"]
    x, texts = normal((10, 2, *bench.latent), "x"), normal((10, 5, *bench.tokens), "c")
    grid = Grid(c["timesteps"], 0, c["captions"], c["flips"], c["spread"])
    queries = Queries(["a", "b", "c", "d"], x[:4, 0], texts[:4, 0])
    return replace(bench.shared(1), images=Images(range(10), x, texts), grid=grid, queries=queries)


@pytest.mark.parametrize("flips", [True, False])
@pytest.mark.parametrize("change", [{}, {"spread": True}, {"curvature": "diagonal", "store": 0}])
def test_cache_counts_rows(study, counted, change, flips):
    study["cache"] |= {"captions": 9, "flips": flips, **change}
    c, work, all_of = study["cache"], stages(study)["cache"][0], shared(study)
    sums, draws = core.curvature_of(all_of, 1, c["curvature"], 0, 10), c["fisher_draws"]
    fisher = counted(core.curvature_of, all_of, draws, c["curvature"], 0, 10)
    if c["curvature"] == "ekfac":
        basis = eigenbasis({k: v for k, v in sums.items() if k not in all_of.denoiser.weights})
        fisher += counted(core.eigenvalues_of, replace(all_of, curvature=basis), draws, 0, 10)
    assert fisher == work["fisher"]
    assert counted(core.losses_of, all_of, 0, 10) == work["losses"]
    move = {name: torch.zeros(1, *shape) for name, shape in all_of.shapes().items()}
    walk = replace(all_of, grid=replace(all_of.grid, spread=False))
    walked = counted(core.influence_of, walk, move, 2, 0, 10)
    assert work["influence"] == (walked if c["store"] else 0)
    assert stages(study)["influence"][0]["influence"] == (0 if c["store"] else walked)


def test_queries_count_rows(study, counted):
    base, panda = stages(study), stages(study, "panda")
    study["unlearn"] |= {"relative_norm": 0.1}
    newton = Newton("identity", 0.1, 2, steps=2, relative_norm=0.1)
    one = counted(core.unlearn_query, shared(study), 0, newton)
    assert sum(stages(study)["unlearn"][0].values()) == 4 * one
    assert stages(study)["unlearn"][0]["gradient"] == 4 * 2 * (2 * 2)  # queries, steps
    assert base["unlearn"][0]["gradient"] == 4 * 2 * (2 * 2)
    looked = base["unlearn"][0]["losses"] - stages(study)["unlearn"][0]["losses"]
    assert looked == 4 * 2 * (24 * 2), "looks for the rise"
    assert base["influence"][0]["gradient"] == 4 * (2 * 2)
    assert base["localize"][0]["gradient"] == 3 * 2 * (2 * 2)  # regions, captions
    assert base["tune"][0]["gradient"] == 6  # settings of AbU and AbU+; one timestep
    assert base["tune"][0]["losses"] == 6 * (10 * 2 * 2 + 1 + 24)
    assert panda["unlearn"][0]["gradient"] == 2 * 2 * (2 * 2)  # prompts of its category
    assert base["tune"][0]["features"] == 2 * (10 + 1) + 3  # timesteps; the journey
    assert base["compare"][0]["features"] == 2 * 4 + 4 * 3  # those of images are kept
    assert panda["compare"][0]["features"] == 12 + 2  # two exemplars
    assert base["generate"][0]["sample"] == 5 * 3 and panda["generate"][0]["sample"] == 2 * 3
    assert panda["customize"][0]["train"] == 3 * 2 * 4  # steps, exemplars and pictures of the prior


def test_retraining_counts_models(study):
    ids, c, work = range(10), study["retrain"], stages(study)
    scores = {method: np.random.default_rng(0).random((4, 10)) for method in c["methods"]}
    asked = leave_k_out(scores, ids, {"all": [0, 1, 2, 3]}, c["k"], c["seeds"], c["draws"], 0)
    alike, none = dict.fromkeys(c["latin"]["methods"], scores["abu"]), np.zeros((4, 10), bool)
    squares = plan_squares(alike, ids, [[0, 1]], c["latin"]["squares"], none).model.nunique()
    asked += [None] * squares
    halves = plan_bank(ids, {1: 4, 2: 3}, [])
    models = 3 + len(asked) + len(halves) + 1  # nothing is removed under three seeds, and a fourth
    assert work["retrain"][0]["losses"] == models * (5 + 2 + 2) * 2 * 2  # noises and timesteps
    assert work["retrain"][0]["sample"] == models * 5 * 3
    once = work["train"][0]["train"]
    assert once == 6 * 8 * 10 / 12  # those held out drop out of their slots
    assert work["retrain"][0]["train"] == (models - 1 - len(halves) / 2) * once
    study["retrain"] |= {"bank": "data/bank", "audit": 1}
    again = stages(study)["retrain"][0]["train"]
    assert again == (models - squares - 1 - 1 - len(halves) + 1 / 2 + 2 / 6 / 2) * once
    study["train"]["source"] = "data/captions.json"  # weights in a file
    assert "retrain" not in stages(study) and not stages(study)["train"][0]["train"]


@pytest.mark.parametrize("states", ["float32", "float16", "on-the-fly"])
def test_prepared_bytes_are_those_of_files(study, states, tmp_path):
    study["prepare"]["token_states"] = states
    records = load_captions(Path("data/captions.json"), Path("data/images"))[:5]
    prepare(records, load_components("data/components"), tmp_path, 64, states)
    written = sum((tmp_path / f"{name}.npy").stat().st_size for name in ("latents", "texts"))
    assert stages(study, data=(len(records), 5))["prepare"][1] == pytest.approx(written, abs=300)


def test_every_kind_of_work_does_what_it_says(study, counted):
    bench = footprint.Bench(study)
    assert counted(bench.losses, 20) == bench.losses(20) == 20
    assert counted(bench.influence, 20) == bench.influence(20) == 20
    assert counted(bench.train, 4) == 3 * 4 and bench.train(4) == 2 * 4
    assert counted(bench.sample, 4) == 2 * 4
    assert {counted(run, 7) for run in (bench.fisher, bench.gradient, bench.features)} == {7}
    used = [row[0] for system in study["systems"] for row in stages(study, system).values()]
    assert set(+sum(used, Counter())) == KINDS
    for kind in KINDS:
        seconds, memory, _ = footprint.measure(bench, kind, 0.0)
        assert 0 < seconds < 30 and memory > 1e8


def test_units_grow_while_there_is_time_and_peaks_are_of_what_was_held(study):
    bench, asked = footprint.Bench(study), []
    bench.losses = asked.append
    footprint.measure(bench, "losses", 100.0)
    footprint.measure(bench, "losses", 0.0)
    assert asked == [1, 1, 3, 9, 16, 1, 1]
    low = footprint.peak(reset=True)[0]
    bytearray(b"1" * (200 << 20))
    assert footprint.peak()[0] > low + (190 << 20) > footprint.peak(reset=True)[0] + (130 << 20)


def test_a_stage_costs_units_times_seconds(study, monkeypatch):
    monkeypatch.setattr(plan, "measure", lambda bench, kind, seconds: (2.0, len(kind), 7))
    row = "cache", Counter(text=3, losses=0), 5, 100
    monkeypatch.setattr(plan, "stages", lambda *given: [row])
    table = plan.plan(study, (12, 5), 0.0, (10.0, 1))
    assert table.loc[("cache", "base")].tolist() == [10 + 3 * 2, 4 + 100, 7, 5]


@pytest.mark.parametrize("preset", ["abc", "emoji-full", "mscoco"])
def test_presets_are_planned_from_configs_alone(preset, tmp_path, monkeypatch):
    shutil.copy("params.yaml", tmp_path)
    apply(ROOT / f"presets/{preset}.yaml", tmp_path / "params.yaml")
    study, components = load(tmp_path / "params.yaml"), load_components("data/components")
    monkeypatch.chdir(tmp_path)
    text = CLIPTextConfig(hidden_size=32, num_hidden_layers=1)
    with torch.device("meta"):
        unet = UNet2DConditionModel(block_out_channels=(32,) * 4, cross_attention_dim=32)
    for folder in map(Path, ("external/sd-v1-4", "external/sd2", "data/components")):
        text.save_pretrained(folder / "text_encoder")
        for name, part in [("unet", unet), *list(vars(components).items())[2:4]]:
            part.save_config(folder / name)
    tasks = [{"model_path": f"models/artchive/{name}"} for name in ("african", "african", "ardon")]
    Path("external/abc").mkdir()
    Path("external/abc/all_tasks.json").write_text(json.dumps(tasks))
    monkeypatch.setattr(plan, "measure", lambda bench, kind, seconds: (1.0, 1e9, 0))
    table = plan.plan(study, (118_287, 5), 0.0, (5.0, 5e8))
    assert np.isfinite(table).all(axis=None) and (table.seconds >= 5).all()
    found = set(table.index.get_level_values("stage"))
    asked = {*load(ROOT / "dvc.yaml")["stages"]} - {"sources"}  # which takes no time
    assert {*table.index.get_level_values("system")} == {*study["systems"], ""}
    if preset == "abc":  # of the trained model only the cache is needed
        assert asked - found == {"tune", "localize", "influence", "retrain", "evaluate"}
        assert ("unlearn", "base") not in table.index
        seconds = table.seconds.xs("unlearn") - 5
        assert seconds["artchive-african"] == pytest.approx(2 * seconds["artchive-ardon"], 1e-3)
    else:
        assert found == asked


def test_what_has_no_configs_cannot_be_planned(study, tmp_path):
    study["components"]["source"] = str(tmp_path / "nowhere")
    with pytest.raises(OSError, match="nowhere"):
        footprint.Bench(study)
