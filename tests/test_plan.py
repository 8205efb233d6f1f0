"""The plan's counts against runs that really count, its bytes against files really written, its speeds against cases done by hand."""

import copy
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import UNet2DConditionModel
from ruamel.yaml import YAML
from safetensors.torch import save_file

from abu.baselines.evidence import Evidence
from abu.baselines.registry import METHODS
from abu.core.curvature import eigenbasis
from abu.core.jobs import (
    Attributed,
    curvature_of,
    eigenvalues_of,
    forward_of,
    gradient_of,
    influence_of,
    losses_of,
    rescore,
    shapes_of,
    store_of,
    unflatten,
    unlearn_query,
)
from abu.core.store import leading
from abu.data.captions import load_captions
from abu.data.files import write_array, write_parts
from abu.data.prepared import Prepared
from abu.diffusion.components import load_components
from abu.diffusion.encode import prepare
from abu.diffusion.noise import normal
from abu.diffusion.sample import sample
from abu.diffusion.train import train
from abu.diffusion.unet import select_weights
from abu.judge.retrain import Questions, Recipe, ask, retrain
from abu.report.figures import strips
from abu.study import calibrate, counts, footprint
from abu.study.costs import MEASURED, STAGE, STAGES, read, record
from abu.study.plan import KINDS, TABLE, Pass, Rate, Stage, Study, predict
from abu.study.run import execute
from abu.study.sizes import EXEMPLARS, count_exemplars, count_images, count_published, sizes_of
from abu.study.tasks import run_tasks

ROOT = Path(__file__).resolve().parents[1]
load = YAML(typ="safe").load


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def params() -> dict:
    return load(ROOT / "tests" / "params.yaml")


@pytest.fixture
def study(params) -> Study:
    return Study(params, sizes_of(params)[0])


@pytest.fixture
def config(params) -> dict:
    return sizes_of(params)[2]


@pytest.fixture
def rows(monkeypatch) -> list[int]:
    """Rows of every forward pass of a U-Net from here on."""
    seen, forward = [], UNet2DConditionModel.forward
    monkeypatch.setattr(UNet2DConditionModel, "forward", lambda self, x, *rest, **named: seen.append(len(x)) or forward(self, x, *rest, **named))
    return seen


def counted(rows: list[int], run) -> int:
    """Rows that ``run`` sends through U-Nets."""
    before = len(rows)
    run()
    return sum(rows[before:])


def attributed(study: Study, config: dict, section: str = "cache", queries: int = 0, **options) -> Attributed:
    """What ``section`` works on, with random weights and data."""
    c, s, n = study.section(section), study.sizes, study.trained
    flips = 2 if study.section("cache")["flips"] else 1
    unet = UNet2DConditionModel(**config)
    scheduler = load_components("data/components").scheduler
    names = select_weights(unet, c["weights"])
    x, texts = normal((n, flips, *s.latent), "x"), normal((n, s.captions, s.tokens, s.width), "texts")
    asked = (normal((queries, *s.latent), "z"), normal((queries, s.tokens, s.width), "c"), [f"q{q}" for q in range(queries)])
    return Attributed(unet, scheduler, names, x, texts, list(range(n)), c["timesteps"], 0, c["batch_size"], "cpu", c.get("captions", 1), {}, asked, **options)


def test_sizes_are_those_of_the_data_and_the_models(study, config):
    s, components = study.sizes, load_components("data/components")
    assert (s.images, s.captions, s.flips, study.trained, study.reported) == (12, 5, 2, 10, 4)
    assert s.exemplars == {"panda": 2} and s.picture == Path("data/images") / s.picture.name
    picture = torch.zeros(1, 3, 64, 64)
    assert s.latent == tuple(components.encode(picture).shape[1:]) and (s.tokens, s.width) == tuple(components.texts(["a"]).shape[1:])
    unet = UNet2DConditionModel(**config)
    assert s.unet == sum(p.numel() for p in unet.parameters())
    names = select_weights(unet, "cross-attn-kv")
    assert s.shapes["cross-attn-kv"] == {name: tuple(unet.get_parameter(name).shape) for name in names}


@pytest.mark.parametrize("change", [{}, {"spread": True, "captions": 5}, {"flips": False, "captions": 9}, {"curvature": "diagonal", "store": 0}])
def test_cache_counts_rows_and_bytes(params, study, config, rows, change, tmp_path):
    params["cache"] |= change
    c, stage, n = study.section("cache"), counts.cache(study), study.trained
    shared = attributed(study, config, spread=c["spread"])
    sums = []
    assert counted(rows, lambda: sums.append(curvature_of(shared, c["fisher_draws"], c["curvature"], 0, n))) == stage.units["fisher"]
    cached, tables = unflatten(sums[0], shapes_of(shared, c["curvature"])), []
    assert counted(rows, lambda: tables.append(losses_of(shared, 0, n))) == stage.units["losses"]
    write_array(tmp_path / "losses.npy", tables[0])
    if c["curvature"] == "ekfac":
        basis, values = eigenbasis({name: value for name, value in cached.items() if name not in shared.weights}), []
        run = lambda: values.append(eigenvalues_of(replace(shared, curvature=basis), c["fisher_draws"], 0, n))
        assert counted(rows, run) == stage.units["eigenvalues"]
        cached |= basis | unflatten(values[0], shapes_of(shared, "values"))
        found = []
        assert counted(rows, lambda: found.append(store_of(shared, leading(cached, shared.weights, c["store"]), c["cotangents"], 0, n))) == stage.units["store"]
        write_parts(tmp_path / "store.npy", found[0].shape, "float16", iter(found))
    assert stage.units["eigenvalues"] == (0 if c["curvature"] != "ekfac" else stage.units["fisher"])
    save_file({name: value.contiguous() for name, value in cached.items()}, tmp_path / "curvature.safetensors")
    assert stage.disk == pytest.approx(sum(path.stat().st_size for path in tmp_path.iterdir()), rel=0.02)


def test_unlearning_counts_rows(params, study, config, rows):
    c, stage = study.section("unlearn"), counts.unlearn(study)
    shared = attributed(study, config, queries=study.reported)
    options = {"steps": c["steps"], "relative_norm": 0.1}
    one = [counted(rows, lambda: unlearn_query(shared, q, c["gradient_draws"], "identity", 0.1, options)) for q in range(study.reported)]
    assert sum(one) + counted(rows, shared.query_losses) == stage.units["losses"] + stage.units["gradient"]
    assert stage.units["gradient"] == 4 * 2 * 2 * 2  # queries, steps, timesteps, draws
    customized = replace(study, params=params | {"unlearn-customized": {**params["unlearn-customized"], "steps": 1}})
    assert counts.unlearn(customized, "panda").units["gradient"] == 2 * 1 * 2 * 2


def test_influence_counts_rows(params, study, config, rows):
    c, n, count = study.section("influence"), study.trained, study.reported
    shared = attributed(study, config, queries=count)
    moves = torch.zeros(count, sum(torch.Size(shape).numel() for shape in shapes_of(shared).values()))
    probes, norms, some = c["probes"], [0.01, 0.05], list(range(c["probe_images"]))

    def run(store: bool):
        for q in range(count):
            gradient_of(shared, q, c["gradient_draws"])
        if not store:
            influence_of(shared, moves, 2, 0, n)
        for q in range(probes):
            for _ in norms:
                rescore(shared, list(range(n)), moves[q])
            forward_of(shared, moves[q], 0, n)
        for _ in range(1 + (count if store else 0)):
            rescore(shared, list(range(n // 2)), moves[0])
        for captions, spread in ((1, False), (5, True), (5, False)):
            for _ in range(1 + probes):
                rescore(replace(shared, captions=captions, spread=spread), some, moves[0])

    for store in (1024, 0):
        params["cache"]["store"] = store
        units = counts.influence(study).units
        assert counted(rows, lambda: run(bool(store))) == sum(units[kind] for kind in ("gradient", "influence", "losses", "forward mode"))
        assert (units["influence"] > 0) == (not store) and (units["answer"] > 0) == bool(store)


def test_drawing_counts_rows(params, study, config, rows):
    c, s, stage = study.section("generate"), study.sizes, counts.generate(study)
    count = sum(study.queries.values())
    arguments = (normal((count, s.tokens, s.width), "c"), normal((s.tokens, s.width), "empty"), [(q,) for q in range(count)], s.latent)
    scheduler = load_components("data/components").scheduler
    assert counted(rows, lambda: sample(UNet2DConditionModel(**config), scheduler, *arguments, steps=c["steps"])) == stage.units["sample"]
    assert stage.disk == pytest.approx(4 * count * (4 * 16 * 16 + 24 * 128 + 3 * 64 * 64), rel=0.02)
    assert counts.generate(study, "panda").units["sample"] == 2 * 2 * 3  # prompts of its category, guidance, steps


def test_training_again_counts_rows(params, study, config, rows, tmp_path):
    t, c, count = study.section("train"), study.section("retrain"), study.reported
    components = load_components("data/components")
    records = load_captions(Path("data/captions.json"), Path("data/images"), params["prepare"]["keep"])
    prepare(records, components, tmp_path, 64, "float16")
    data = Prepared(tmp_path)
    options = {name: t[name] for name in ("steps", "batch_size", "lr", "warmup", "caption_dropout", "flips", "ema_decay")}
    keep = data.ids[: study.trained]
    run = lambda: train(data, components.scheduler, config, keep, **options, progress="")
    assert counted(rows, run) == counts.train(study).units["train"] == 40  # whole epochs: 6 steps of 8, of 12 images, 2 held out

    recipe, removals, stage = Recipe(data, components.scheduler, config, options, keep, "cpu"), counts.removals(study), counts.retrain(study)
    assert len(removals) == 3 + 3 + 2 * 2 * (2 + 1) + 1 + 2 * 3  # none, right and random, leave K out, alone, halves
    half, distinct = removals[-1], {removal.name for removal in removals}
    assert counted(rows, lambda: retrain(recipe, [keep[i] for i in half.removed], 0)) == 4 * 5
    lengths = {removal.name: len(removal.removed) for removal in removals}
    assert stage.units["train"] == sum(4 * (10 - length) for length in lengths.values()) - 40
    questions = Questions(
        normal((count, *study.sizes.latent), "z"), normal((count, 24, 128), "c"), [str(q) for q in range(count)], c["timesteps"],
        {"steps": 3}, 0, c["batch_size"],
    )
    weights = torch.zeros(study.sizes.unet)
    asked = counted(rows, lambda: ask((recipe, questions), weights))
    assert asked * len(distinct) == stage.units["losses"] + stage.units["sample"]


def test_features_count_rows(study, config, rows, tmp_path, monkeypatch):
    c, s = study.section("tune"), study.sizes
    shared = attributed(study, config, "tune", queries=1)
    monkeypatch.chdir(tmp_path)  # evidence is kept in scratch
    evidence = Evidence(
        shared, None, [], [], ["prompt"], torch.zeros(1, 3, 64, 64), normal((s.tokens, s.width), "empty"), {"steps": 3}, c["dimension"],
        "", None, run_tasks,
    )
    methods = [name for name, (_, _, options) in METHODS.items() if options]
    run = lambda: [evidence(name) for method in methods for name in METHODS[method][1]]
    units = counts.tune(study).units
    assert counted(rows, run) == units["features"] + units["sample"]
    sketched = [evidence.found[name][1] for name in ("loss gradients", "square gradients", "mean gradients")]
    assert sum(images.nbytes for images in sketched) == counts.tune(study).scratch - 4 * 2 * 10 * 2 * 2  # two moves, flips, captions


def test_compare_takes_features_that_tune_kept(params, study):
    once = 3 * 2 * 4 + 4 * 3  # functions, timesteps, queries; steps of the journey
    assert counts.compare(study).units["features"] == once
    params["compare"]["features"] = {**{name: params["tune"][name] for name in ("weights", "dimension")}, "timesteps": [500]}
    assert counts.compare(study).units["features"] == 3 * 1 * (4 + 10) + 4 * 3
    assert counts.compare(study, "panda").units["features"] == 2 * 1 * (2 + 12)  # loss and square, of ten images and two exemplars


@pytest.mark.parametrize("states", ["float32", "float16", "on-the-fly"])
def test_prepared_bytes_are_those_of_the_files(study, states, tmp_path):
    records = load_captions(Path("data/captions.json"), Path("data/images"), {"concept": ["skull"]})
    prepare(records, load_components("data/components"), tmp_path, 64, states)
    written = sum(path.stat().st_size for path in tmp_path.glob("*.npy"))
    assert written == study.prepared(len(records), 5, states) - len(records) * TABLE
    coco = replace(study, sizes=replace(study.sizes, tokens=77, width=1024))
    assert coco.text_bytes(591435, "float32") == pytest.approx(187e9, rel=0.005)


def test_stages_are_those_of_the_pipeline(params, study):
    declared = load(ROOT / "dvc.yaml")["stages"]
    assert {stage.name for stage in counts.stages(study)} == set(declared)
    models = {name: {"category": "object", "keep": {}, "train_prompt": ""} for name in ("a", "b")}
    more = Study(params | {"common": params["common"] | {"models": models}}, replace(study.sizes, exemplars={"a": 1, "b": 2}))
    assert sorted(s.customized for s in counts.stages(more) if s.name == "cache-customized") == ["a", "b"]
    params["train"]["source"] = "somewhere"
    assert set(declared) - {stage.name for stage in counts.stages(study)} == {"retrain", "evaluate"}


def test_captions_on_the_fly_are_encoded_whenever_they_are_read(study):
    live = replace(study, sizes=replace(study.sizes, states="on-the-fly"))
    encoded = {stage.name for stage in counts.stages(live) if stage.units["text"]}
    assert {"train", "cache", "tune", "unlearn", "retrain", "compare-customized"} < encoded and not encoded & {"components", "evaluate", "report"}
    assert counts.cache(live).units["text"] == 10 * 2 * 2 + 2 * 20, "captions of losses and store; draws of Fisher and eigenvalues"
    assert counts.cache(live, "panda").units["text"] == 12 and not counts.cache(study).units["text"]


def bench(params: dict) -> calibrate.Bench:
    sizes, components, config = sizes_of(params)
    return calibrate.Bench(components, config, sizes, 64, params["train"], {}, "cpu", strips)


def test_every_pass_can_be_calibrated(params, study):
    assert set(calibrate.RUNS) == set(KINDS)
    live = replace(study, sizes=replace(study.sizes, states="on-the-fly"))
    bare = Study(copy.deepcopy(params), study.sizes)
    bare.params["cache"] |= {"store": 0, "curvature": "diagonal"}
    passes = {p.kind: p for some in (study, live, bare) for stage in counts.stages(some) for p, units in stage.work.items() if units}
    assert set(passes) == set(KINDS)
    machine = bench(params)
    rates = {kind: calibrate.calibrate(machine, p, 0.0) for kind, p in passes.items()}
    assert all(rate.seconds > 0 and rate.fixed + rate.each >= 0 for rate in rates.values())
    forward = rates["sample"].flops
    assert forward > 0 and 2.5 < rates["train"].flops / forward < 3.5  # forward, and twice that backward
    assert rates["losses"].flops < forward  # captions are shared
    assert rates["train"].each > rates["gradient"].each > rates["sample"].each > 0  # what a backward pass needs is kept
    assert forward < rates["gradient"].flops < rates["train"].flops < rates["store"].flops + rates["train"].flops


def test_speed_flops_and_memory_of_a_pass_done_by_hand(params, monkeypatch):
    asked = []

    def twice(machine, batch):
        def run(n):
            asked.append(n)
            for _ in range(2):
                torch.ones(n, 1000) @ torch.ones(1000, 10)
            return 2 * n, 0.5 * n

        return run

    monkeypatch.setitem(calibrate.RUNS, "read", twice)
    rate = calibrate.calibrate(bench(params), Pass("read", 32), 0.3)
    assert rate.flops == 2 * 1000 * 10 and rate.seconds == 0.25
    assert rate.each == pytest.approx(4 * (1000 + 10), rel=0.01)  # the rows that are there at once, and their products
    assert rate.fixed == pytest.approx(4 * 1000 * 10, rel=0.01)
    assert asked[:7] == [1, 4, 8, 2, 4, 8, 16] and max(asked) == 32


def test_speed_at_a_batch_that_was_not_reached_follows_a_line():
    step = lambda n: (n, (80 + 10 * n) / n)  # 80 for a step, 10 a row
    assert calibrate.seconds_at(32, [step(1), step(2), step(4)]) == pytest.approx((80 + 320) / 32)
    assert calibrate.seconds_at(4, [step(1), (4, 5.0), (4, 9.0), (4, 6.0)]) == 6.0
    assert calibrate.seconds_at(32, [(2, 3.0)]) == 3.0
    assert calibrate.seconds_at(32, [(1, 3.0), (2, 1.0)]) == 1.0  # noise: two in less time than one


def test_tensors_are_counted_while_they_live():
    outside = torch.ones(1000)
    with footprint.Alive() as alive:
        a = outside + 1
        b = a.reshape(10, 100) + 1  # a view takes nothing
        assert alive.now == alive.peak == 8000
        del a
        c = b * 2
        assert alive.now == alive.peak == 8000
        outside.add_(1)
        assert alive.now == 8000
        del b, c
    assert alive.now == 0 and alive.peak == 8000


def test_a_stage_costs_units_times_rates(study):
    heavy, light = Pass("train", 8), Pass("read", 1)
    stage = Stage("train", "", counts.Counter({heavy: 10, light: 4, Pass("panel"): 0}), disk=5, scratch=6, held=100)
    rates = {heavy: Rate(3.0, 0.5, 1000.0, 10.0), light: Rate(0.0, 2.0, 50.0, 0.0)}
    models = 4 * (study.sizes.unet + study.sizes.frozen)
    found = predict(stage, rates, study.sizes, (7.0, 1e6), gpu=False)
    assert found == {
        "stage": "train", "customized": "", "flops": 30, "seconds": 7 + 5 + 8, "disk": 5, "scratch": 6,
        "memory": 1e6 + models + 100 + 1080, "accelerator": 0,
    }
    on_gpu = predict(stage, rates, study.sizes, (7.0, 1e6), gpu=True)
    assert on_gpu["memory"] == found["memory"] - 1080 and on_gpu["accelerator"] == models + 1080


def test_what_cannot_be_planned_is_said(params, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="'train': run the stage components first"):
        sizes_of(params | {"components": {"source": "train"}})
    with pytest.raises(ValueError, match="components.source is '.*nowhere'; expected a folder in diffusers' format"):
        sizes_of(params | {"components": {"source": str(tmp_path / "nowhere")}})
    with pytest.raises(ValueError, match="train.source '.*nowhere' has no U-Net"):
        sizes_of(params | {"train": {**params["train"], "source": str(tmp_path / "nowhere")}})
    with pytest.raises(ValueError, match="images is 7, plan.captions None; expected both, or neither"):
        count_images(params["prepare"], 7, None)
    with pytest.raises(FileNotFoundError, match="gone.json.*give plan.images and plan.captions"):
        count_images(params["prepare"] | {"annotations": "gone.json"}, None, None)
    assert count_images(params["prepare"] | {"annotations": "gone.json"}, 118287, 5) == (118287, 5, 2, "float16", None)
    with pytest.raises(FileNotFoundError, match="tasks.json is missing: this task list says how many pictures"):
        count_published({"root": str(tmp_path), "tasks": "tasks.json"})


def test_published_data_are_counted_by_their_shapes(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((6, 4, 8, 8), np.float32))
    np.save(tmp_path / "c.npy", np.zeros((3, 7, 16), np.float16))
    section = {"latents": str(tmp_path / "x.npy"), "annotations": str(tmp_path / "c.npy"), "texts": None, "images": "", "keep": {}, "token_states": "float32"}
    assert count_images(section, None, None) == (3, 1, 2, "float16", None)
    rows = [{"model_path": f"models/art/{name}"} for name in ("a", "a", "b")]
    (tmp_path / "tasks.json").write_text(json.dumps(rows))
    customize = {"root": str(tmp_path), "tasks": "tasks.json", "sources": []}
    assert count_published(customize) == {"art-a": 2, "art-b": 1}


def test_exemplars_that_are_not_here_are_a_few(tmp_path, params):
    gone = params["customize"] | {"root": str(tmp_path)}
    assert count_exemplars(gone, params["common"]["models"]) == {"panda": EXEMPLARS}


def test_costs_of_stages_are_kept_by_stage_and_model(tmp_path):
    path = tmp_path / "stages.csv"
    record({("cache", ""): {"seconds": 1, "disk_bytes": 2}}, path, STAGE, MEASURED)
    record({("cache-customized", "panda"): {"seconds": 3.0}, ("cache", ""): {"seconds": 4.0}}, path, STAGE, MEASURED)
    found = read(path, STAGE, MEASURED)
    assert found.seconds.to_dict() == {("cache", ""): 4.0, ("cache-customized", "panda"): 3.0}
    assert found.disk_bytes[("cache", "")] == 2 and np.isnan(found.disk_bytes[("cache-customized", "panda")])
    assert path.read_text().splitlines()[0] == "stage,customized,seconds,peak_bytes,disk_bytes"
    with pytest.raises(KeyError, match="hours.* is unknown"):
        record({("cache", ""): {"hours": 1}}, path, STAGE, MEASURED)


def test_runner_hands_over_the_study_and_records_what_it_took(tmp_path):
    cells = [
        nbformat.v4.new_code_cell('study: dict = {}\nword: str = ""\nout: str = ""', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("held = bytearray(200_000_000)\nopen(f'{out}/file', 'w').write(study['common']['word'] * 500)"),
    ]
    (tmp_path / "notebooks").mkdir()
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}})
    nbformat.write(notebook, tmp_path / "notebooks" / "toy.ipynb")
    (tmp_path / "params.yaml").write_text("common: {word: hi}\ntoy: {}\n")
    execute("toy", {}, tmp_path)
    assert (tmp_path / "results/toy/file").read_text() == "hi" * 500
    took = read(tmp_path / STAGES, STAGE, MEASURED).loc[("toy", "")]
    assert took.disk_bytes == 1000 and took.peak_bytes > 200e6 and 0 < took.seconds < 300


def test_plan_runs_on_its_own_and_meets_what_was_measured(tmp_path):
    for name in ("notebooks", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (tmp_path / "data").symlink_to(ROOT / "data")
    shutil.copy(ROOT / "tests" / "params.yaml", tmp_path)
    took = {("train", ""): {"seconds": 1e6}, ("cache", ""): {"seconds": 1e-3}}
    record(took, tmp_path / STAGES, STAGE, MEASURED)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    subprocess.run([sys.executable, "-m", "abu.study.run", "plan", "seconds=0.01", "threads=1"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    table = pd.read_csv(tmp_path / "results/plan/plan.csv", keep_default_na=False)
    assert set(table.stage) == set(load(ROOT / "dvc.yaml")["stages"])
    assert (table.seconds > 0).all() and (table.memory > 1e8).all() and (table.disk > 0).all()
    outputs = [str(o) for cell in nbformat.read(tmp_path / "results/plan.ipynb", 4).cells for o in cell.get("outputs", [])]
    assert "0 of 1 stages of at least 10 s are predicted within a factor of 2; not: train." in outputs[-1]
    assert any("image/png" in output for output in outputs)
    assert ("plan", "") in read(tmp_path / STAGES, STAGE, MEASURED).index
