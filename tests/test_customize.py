"""Customized models: what is trained, what is saved and loaded, what is refused; and the published benchmark from end to end."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import CustomDiffusionAttnProcessor
from helpers import picture, stable_diffusion, tiny_unet, write_params
from safetensors.torch import load_file
from test_pipeline import dvc, study_in

from abu import ROOT
from abu.data.captions import load_exemplars
from abu.data.published import distractors, exemplars, model_name, read_tasks, tasks_of
from abu.diffusion.components import load_components
from abu.diffusion.customize import (
    WEIGHTS,
    add_token,
    class_vector,
    customize,
    load_customized,
    merge,
    save_customized,
)
from abu.diffusion.losses import denoising_loss
from abu.diffusion.noise import normals, stream
from abu.judge.recovery import best, measure, summarize, words


@pytest.fixture(scope="module")
def components():
    return load_components(ROOT / "data/components")


@pytest.fixture
def exemplars_of_one(components):
    unet, own = tiny_unet(), add_token(components, "<new1>", class_vector(components, "cat"))
    latents = normals((4, 16, 16), [("exemplar", i) for i in range(3)])
    return unet, own, {"token": "<new1>", "latents": latents, "prompts": ["<new1> cat", "noto <new1> cat", "<new1> cat"], "ids": [7, 8, 9]}


def test_only_keys_values_and_the_new_token_learn(components, exemplars_of_one) -> None:
    unet, own, arguments = exemplars_of_one
    before, words_before = copy.deepcopy(unet).state_dict(), own.text_encoder.get_input_embeddings().weight.clone()
    number = own.tokenizer.convert_tokens_to_ids("<new1>")
    assert torch.equal(words_before[number], class_vector(components, "cat"))
    losses = customize(unet, own, **arguments, steps=40, batch_size=6, lr=5e-3, token_lr=1e-2)
    assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 0.02
    changed = {name for name, value in unet.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "attn2.to_k" in name or "attn2.to_v" in name}
    words_after = own.text_encoder.get_input_embeddings().weight
    assert (words_after != words_before).any(1).nonzero().flatten().tolist() == [number]
    assert torch.equal(components.texts(["crying cat"]), own.texts(["crying cat"])), "other captions keep their states"
    assert not components.tokenizer.get_added_vocab().get("<new1>"), "the components that were given are untouched"
    again = tiny_unet(), add_token(components, "<new1>", class_vector(components, "cat"))
    assert customize(*again, **arguments, steps=40, batch_size=6, lr=5e-3, token_lr=1e-2) == losses


def test_prior_preservation_keeps_the_loss_of_the_prior_low(components, exemplars_of_one) -> None:
    _, _, arguments = exemplars_of_one
    x, prompts = normals((4, 16, 16), [("prior", i) for i in range(4)]), ["cat"] * 4
    eps, t, text = normals((4, 16, 16), [("eps", i) for i in range(4)]), torch.tensor([100, 300, 500, 900]), components.texts(prompts)

    def loss_after(prior, weight) -> float:
        unet, own = tiny_unet(), add_token(components, "<new1>", class_vector(components, "cat"))
        customize(unet, own, **arguments, steps=40, batch_size=4, lr=5e-3, token_lr=1e-2, prior=prior, prior_weight=weight)
        with torch.no_grad():
            return denoising_loss(unet, own.scheduler, x, eps, t, text).mean().item()

    assert loss_after((x, prompts), 0.0) == loss_after(None, 1.0)
    assert loss_after((x, prompts), 1.0) < loss_after(None, 1.0)


def published_by_diffusers(unet, folder: Path, vector: torch.Tensor, safe: bool) -> UNet2DConditionModel:
    """Write a customized model with diffusers alone, as its training script of 2023 did; the model that was saved."""
    model, processors = copy.deepcopy(unet), {}
    for name in model.attn_processors:
        layer = model.get_submodule(name.removesuffix(".processor"))
        if "attn2" not in name:
            processors[name] = CustomDiffusionAttnProcessor(train_kv=False, train_q_out=False)
            continue
        hidden, text = layer.to_k.weight.shape
        own = CustomDiffusionAttnProcessor(train_kv=True, train_q_out=False, hidden_size=hidden, cross_attention_dim=text)
        for part, old in (("to_k_custom_diffusion", layer.to_k), ("to_v_custom_diffusion", layer.to_v)):
            noise = torch.from_numpy(stream("published", name, part).standard_normal(old.weight.shape, dtype=np.float32))
            getattr(own, part).weight.data = old.weight + 0.1 * noise
        processors[name] = own
    model.set_attn_processor(processors)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_attn_procs(folder, safe_serialization=safe)
    torch.save({"<new1>": vector}, folder / "<new1>.bin")
    return model


@pytest.mark.parametrize("safe", [False, True])
def test_published_deltas_draw_as_they_do_in_diffusers(tmp_path, components, safe: bool) -> None:
    base, vector = tiny_unet(), class_vector(components, "fox")
    theirs = published_by_diffusers(base, tmp_path, vector, safe)
    weights, token, found = load_customized(tmp_path)
    merge(base, weights)
    assert token == "<new1>" and torch.equal(found, vector)
    x, t, text = normals((4, 16, 16), [("x", i) for i in range(2)]), torch.tensor([1, 900]), components.texts(["a cat", "a dog"])
    with torch.no_grad():
        torch.testing.assert_close(base(x, t, text).sample, theirs(x, t, text).sample)
        assert (base(x, t, text).sample - tiny_unet()(x, t, text).sample).abs().max() > 1e-3


def test_what_is_saved_loads_here_and_in_diffusers(tmp_path, components, exemplars_of_one) -> None:
    unet, own, arguments = exemplars_of_one
    customize(unet, own, **arguments, steps=5, batch_size=3, lr=5e-3, token_lr=1e-2)
    save_customized(tmp_path, unet, own, "<new1>")
    assert {path.name for path in tmp_path.iterdir()} == {f"{WEIGHTS}.safetensors", "<new1>.safetensors"}
    again = tiny_unet()
    weights, token, vector = load_customized(tmp_path)
    merge(again, weights)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in unet.state_dict().items())
    text = add_token(components, token, vector).texts(["<new1> cat"])
    assert torch.equal(text, own.texts(["<new1> cat"]))
    fresh = load_components(ROOT / "data/components")
    pipe = StableDiffusionPipeline(
        fresh.vae, fresh.text_encoder, fresh.tokenizer, tiny_unet(), fresh.scheduler, None, None, requires_safety_checker=False
    )
    saved = load_file(tmp_path / f"{WEIGHTS}.safetensors")
    published_by_diffusers(unet, tmp_path / "theirs", vector, safe=True)
    assert saved.keys() == load_file(tmp_path / "theirs" / f"{WEIGHTS}.safetensors").keys()
    # load_attn_procs itself of diffusers 0.42 cannot read a safetensors file of its own: self-attention leaves no entry in it
    pipe.unet.set_attn_processor({**pipe.unet.attn_processors, **pipe.unet._process_custom_diffusion(saved)})
    pipe.load_textual_inversion(tmp_path, weight_name="<new1>.safetensors")
    x, t = normals((4, 16, 16), [("x", 0)]), torch.tensor([300])
    with torch.no_grad():
        states = pipe.text_encoder(fresh.tokens(["<new1> cat"])).last_hidden_state
        torch.testing.assert_close(states, text)
        torch.testing.assert_close(pipe.unet(x, t, states).sample, unet(x, t, text).sample)


def test_customized_models_that_are_wrong(tmp_path, components) -> None:
    with pytest.raises(ValueError, match="class word 'hedgehoggery' is unknown to the tokenizer, which reads"):
        class_vector(components, "hedgehoggery")
    with pytest.raises(ValueError, match=r"has the shape \(8,\); expected \(128,\)"):
        add_token(components, "<new1>", torch.zeros(8))
    own = add_token(components, "<new1>", torch.zeros(128))
    with pytest.raises(ValueError, match="has a token '<new1>' already"):
        add_token(own, "<new1>", torch.zeros(128))
    with pytest.raises(FileNotFoundError, match="is no customized model: expected pytorch_custom_diffusion_weights"):
        load_customized(tmp_path)
    published_by_diffusers(tiny_unet(block_out_channels=(8, 16)), tmp_path, torch.zeros(128), False)
    with pytest.raises(ValueError, match=r"attn2.to_k.weight has the shape \(16, 128\); the model has \(8, 128\)"):
        merge(tiny_unet(), load_customized(tmp_path)[0])
    with pytest.raises(FloatingPointError, match="conv_in.bias: 8 of 8 values are not finite"):
        merge(tiny_unet(), {"conv_in.bias": torch.full((8,), torch.nan)})
    torch.save({"unet.weight": torch.zeros(3)}, tmp_path / f"{WEIGHTS}.bin")
    with pytest.raises(ValueError, match="has an entry unet.weight; expected those of Custom Diffusion"):
        load_customized(tmp_path)
    torch.save({"code": Path("/")}, tmp_path / f"{WEIGHTS}.bin")
    with pytest.raises(ValueError, match="holds no tensors that can be read safely"):
        load_customized(tmp_path)


def test_exemplars_are_found_by_their_fields(tmp_path) -> None:
    sources = [[ROOT / "data" / part for part in source] for source in (("captions.json", "images"), ("fluent-3d/captions.json", "fluent-3d/images"))]
    found = load_exemplars(sources, {"concept": ["panda"]}, "{concept} <new1> in {style}")
    assert [r.captions for r in found] == [(f"panda <new1> in {style}",) for style in ("noto", "twemoji", "fluent", "fluent 3d")]
    with pytest.raises(ValueError, match="no exemplar has {'concept': {'pandabear'}}"):
        load_exemplars(sources, {"concept": ["panda", "pandabear"]}, "<new1>")
    with pytest.raises(ValueError, match="no exemplar where {'concept': .'pandabear'.}"):
        load_exemplars(sources, {"concept": ["pandabear"]}, "<new1>")
    with pytest.raises(ValueError, match="asks for the field 'colour'"):
        load_exemplars(sources, {"concept": ["panda"]}, "{colour} <new1>")
    with pytest.raises(ValueError, match="duplicate ids"):
        load_exemplars(sources[:1] * 2, {"concept": ["panda"]}, "<new1>")
    shutil.copy(sources[1][0], tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match="lacks 451 images"):
        load_exemplars([(tmp_path / "captions.json", tmp_path / "images")], {"concept": ["panda"]}, "<new1>")


def scores_of(values: dict[str, np.ndarray], ids: list[int]) -> pd.DataFrame:
    rows = [(method, q, id, s) for method, table in values.items() for q, row in enumerate(table) for id, s in zip(ids, row)]
    return pd.DataFrame(rows, columns=["method", "query", "image_id", "score"])


def test_recovery_on_a_case_done_by_hand() -> None:
    ids = [30, 10, 20, 40]
    values = {"abu": np.array([[4.0, 3, 2, 1], [1, 2, 3, 4]]), "pixel": np.array([[4.0, 1, 3, 2], [1, 2, 4, 3]])}
    parts = [scores_of({method: table}, ids) for method, table in values.items()]
    rows, ranks = measure(parts, exemplars=[10, 20], k=2)
    by = rows.set_index(["method", "query"])
    assert by.precision["abu"].tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2] * 2)
    assert by.precision["pixel"].tolist() == pytest.approx([(1 / 2 + 2 / 4) / 2, (1 + 2 / 3) / 2])
    assert by.recall["abu"].tolist() == [0.5, 0.5] and by.recall["pixel"].tolist() == [0.5, 0.5]
    assert by.precision["chance"].tolist() == [0.5, 0.5] and set(rows.images) == {4}
    assert ranks.tolist() == [[2, 3], [2, 3], [2, 4], [1, 3]]
    again = measure([pd.concat(parts)], [10, 20], 2)
    pd.testing.assert_frame_equal(again[0], rows)
    assert np.array_equal(again[1], ranks)
    table = summarize(rows.assign(model="m", category="object"))
    assert table.index[0] == "pixel" and table.mAP["abu"] == pytest.approx(7 / 12) and np.isnan(table.p["abu"])
    assert table.low["pixel"] <= table.mAP["pixel"] <= table.high["pixel"] and "Not told apart: pixel" in words(table)
    first, top = best(parts[0], [1, 0], 2)
    assert first.tolist() == [[40, 20], [30, 10]] and top.tolist() == [[4, 3], [4, 3]]
    with pytest.raises(ValueError, match=r"exemplars \[99\] were not scored"):
        measure(parts, [10, 99], 2)
    with pytest.raises(ValueError, match="1 of 2 rankings lack images"):
        measure([parts[0].iloc[1:]], [10], 2)
    with pytest.raises(ValueError, match=r"methods rank \[3, 4\] images; expected all the same"):
        measure([parts[0].query("image_id != 40"), parts[1]], [10], 2)


# ---- the published benchmark

PROMPTS = {"bamfg/101549_0": ("A picture in the style of <new1> art", "art", "test_bamfg"), "imagenet/n01440764_0000": ("<new1> fish", "fish", "test_unobserved_imagenet")}


def benchmark(root: Path, unet, components) -> list[dict]:
    """The layout of the published benchmark, small: two models, 12 distractors. The rows of its task list."""
    rows = []
    for number, (name, (prompt, category, case)) in enumerate(PROMPTS.items()):
        paths = [f"exemplar/{name}/{i}.png" for i in range(1 + 2 * (category == "art"))]
        for i, path in enumerate(paths):
            picture(root / path, name, i, mode=("L", "RGBA", "RGB")[i])  # photographs come in all modes
        (root / "json").mkdir(exist_ok=True)
        listed = [{"exemplar": []}] * number + [{"exemplar": [f"dataset/{path}" for path in paths]}]
        (root / "json" / f"{case}.json").write_text(json.dumps(listed))
        published_by_diffusers(unet, root / "models" / name, class_vector(components, "cat"), safe=False)
        for i in range(2):
            path = f"synth/{name}/samples/{i:05d}.png"
            picture(root / path, "synth", name, i)
            rows.append({"synth_image_path": path, "prompt": f"{prompt} at night", "test_case": case, "test_case_ind": number,
                         "model_path": f"models/{name}", "train_prompt": prompt, "category": category})  # fmt: skip
    for i in range(12):
        picture(root / "laion_subset" / f"{i:05d}.jpg", "laion", i)
    np.save(root / "laion_latents.npy", normals((4, 8, 8), [("laion", i) for i in range(24)]).half())
    np.save(root / "laion_text_embeddings.npy", components.texts([f"caption {i}" for i in range(12)]))
    (root / "all_tasks.json").write_text(json.dumps(rows))
    return rows


SIZES = {  # all that the test changes of presets/abc.yaml
    "prepare": {"side": 32},
    "cache": {"fisher_draws": 2, "timesteps": [0, 500], "batch_size": 8, "shard": 6},
    "unlearn-customized": {"steps": 2, "gradient_draws": 1, "batch_size": 8},
    "compare-customized": {
        "features": {"weights": "cross-attn-kv", "dimension": 64, "timesteps": [100, 900]},
        "settings": {method: {"projection": 64, "ridge": 0.1} for method in ("trak", "d-trak", "das")},
        "clip": "data/components/clip",
    },
    "exemplars": {"k": 3, "top": 3, "shown": 2},
}


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """``presets/abc.yaml`` on a small benchmark, by a real ``dvc repro exemplars``."""
    root = study_in(tmp_path_factory.mktemp("published"))
    unet = stable_diffusion(root / "external/sd-v1-4")
    benchmark(root / "external/abc", unet, load_components(root / "external/sd-v1-4"))
    models = {"models": {model_name(f"models/{name}"): {} for name in PROMPTS}}
    assert models["models"].keys() <= write_params(root, ROOT / "presets/abc.yaml", SIZES)["common"]["models"].keys()
    write_params(root, root / "params.yaml", {"common": models})
    dvc(root, "repro --quiet exemplars")
    return root


def test_published_benchmark_runs(published: Path) -> None:
    metrics = json.loads((published / "results/exemplars/metrics.json").read_text())
    assert set(metrics) == {"abu", "chance", "random", "pixel", "latent", "clip-image", "gradient-dot", "gradient-cosine", "trak", "d-trak", "das"}
    rows = pd.read_csv(published / "results/exemplars/precision.csv")
    assert rows.groupby("method").size().eq(4).all() and set(rows.category) == {"style", "object"}
    scores = pd.read_parquet(published / "results/unlearn-customized/bamfg-101549_0/scores.parquet")
    facts = json.loads((published / "results/customize/bamfg-101549_0/customized.json").read_text())
    assert facts["exemplar_ids"] == [12, 13, 14] and set(scores.image_id) == set(range(15)) and np.isfinite(scores.score).all()
    ran = json.loads((published / "results/train/train.json").read_text())
    assert ran["source"] == "external/sd-v1-4" and ran["train_ids"] == list(range(12))


def test_query_exemplars_and_distractors_are_of_one_scale(published: Path) -> None:
    from abu.data.pictures import read_image

    parts = load_components(published / "results/components/model")
    assert parts.vae.config.scaling_factor == 0.18215
    name = "bamfg/101549_0"
    for found, path in (
        (np.load(published / "results/generate-customized/bamfg-101549_0/latents.npy")[0], f"synth/{name}/samples/00000.png"),
        (np.load(published / "results/customize/bamfg-101549_0/latents.npy")[0, 0], f"exemplar/{name}/0.png"),
    ):
        pixels = torch.from_numpy(read_image(published / "external/abc" / path, 32))
        assert pixels.shape == (3, 32, 32), "three channels, whatever the file has"
        with torch.no_grad():
            mode = parts.vae.encode(pixels[None]).latent_dist.mode()[0]
        np.testing.assert_allclose(found, 0.18215 * mode.numpy(), atol=1e-6)
    stored = np.load(published / "results/prepare/latents.npy")
    published_latents = np.load(published / "external/abc/laion_latents.npy")
    np.testing.assert_array_equal(stored, published_latents.reshape(2, 12, 4, 8, 8).swapaxes(0, 1))


def test_both_loss_passes_of_an_exemplar_meet_one_noise(published: Path, monkeypatch) -> None:
    """A move of no length changes no loss by a bit; and cached losses are those of the images' ids, whatever the batch."""
    from abu.core.jobs import Attributed, rescore
    from abu.diffusion.unet import select_weights
    from abu.study.system import load_system

    monkeypatch.chdir(published)
    name = "imagenet-n01440764_0000"
    system, losses = load_system(name), torch.from_numpy(np.load(f"results/cache-customized/{name}/losses.npy"))
    z, text = (torch.from_numpy(np.load(f"results/generate-customized/{name}/{part}.npy")) for part in ("latents", "texts"))
    shared = Attributed(
        system.unet, system.components.scheduler, select_weights(system.unet, "cross-attn-kv"), system.latents, system.texts,
        system.ids, [0, 500], 0, 8, "cpu", queries=(z, text, ["a", "b"]),
    )
    assert losses.shape == (13, 2, 1, 2)
    size = sum(system.unet.get_parameter(name).numel() for name in shared.weights)
    still = rescore(shared, list(range(len(system.ids))), torch.zeros(size))
    assert torch.equal(still, losses)
    np.testing.assert_allclose(replace(shared, batch_size=1).losses(), losses, rtol=1e-4, atol=1e-6)
    rises = np.load(f"results/unlearn-customized/{name}/rises.npy")
    assert rises.shape == (2, *losses.shape) and 0 < np.abs(rises).max() < losses.mean()


def test_task_lists_that_are_wrong(tmp_path, components) -> None:
    root = tmp_path / "abc"
    rows = benchmark(root, tiny_unet(), components)
    listed = root / "all_tasks.json"
    tasks = read_tasks(listed, root)
    assert tasks.model.tolist() == ["bamfg-101549_0"] * 2 + ["imagenet-n01440764_0000"] * 2
    assert [path.name for path in exemplars(tasks_of(tasks, "bamfg-101549_0"), root)] == ["0.png", "1.png", "2.png"]
    with pytest.raises(KeyError, match="has no model 'bamfg-1'"):
        tasks_of(tasks, "bamfg-1")
    with pytest.raises(ValueError, match="differ in .'train_prompt'."):
        tasks_of(tasks.assign(train_prompt=range(len(tasks))), "bamfg-101549_0")
    (root / "exemplar/bamfg/101549_0/1.png").unlink()
    with pytest.raises(FileNotFoundError, match="exemplars of 'test_bamfg' number 0 are missing: .*1.png"):
        exemplars(tasks_of(tasks, "bamfg-101549_0"), root)
    with pytest.raises(IndexError, match="lists 1 cases; the task list asks for number 5"):
        exemplars(tasks_of(tasks.assign(test_case_ind=5), "bamfg-101549_0"), root)
    (root / "json/test_bamfg.json").unlink()
    with pytest.raises(FileNotFoundError, match="exemplars of test case 'test_bamfg' are listed in"):
        exemplars(tasks_of(tasks, "bamfg-101549_0"), root)
    (root / rows[3]["synth_image_path"]).unlink()
    with pytest.raises(FileNotFoundError, match="the picture of row 3 is missing: .*00001.png"):
        read_tasks(listed, root)
    listed.write_text(json.dumps([{k: v for k, v in rows[0].items() if k != "prompt"}]))
    with pytest.raises(ValueError, match="row 0 lacks .'prompt'."):
        read_tasks(listed, root)
    listed.write_text("{}")
    with pytest.raises(ValueError, match="is not a task list: expected a json list of rows"):
        read_tasks(listed, root)
    (root / "laion_subset/00000.jpg").unlink()
    with pytest.raises(ValueError, match="found 24 latents, 12 texts, 11 pictures"):
        distractors(root / "laion_latents.npy", root / "laion_text_embeddings.npy", root / "laion_subset")


def test_a_system_refuses_what_belongs_to_another(published: Path, monkeypatch) -> None:
    from abu.study.system import load_system

    monkeypatch.chdir(published)
    system = load_system("bamfg-101549_0")
    assert system.images.exemplar.tolist() == [True] * 3 + [False] * 12 and len(system.texts) == 15 and system.ids[:3] == [12, 13, 14]
    base = load_system()
    assert torch.equal(system.texts[3:][:, 0], base.texts[:, 0]) and torch.equal(system.latents[3:][:, 1], base.latents[:, 1])
    with pytest.raises(FileNotFoundError, match="no customized model 'bamfg-2'"):
        load_system("bamfg-2")
    facts = published / "results/train/train.json"
    text = facts.read_text()
    facts.write_text(text.replace(json.loads(text)["model"], "another"))
    try:
        with pytest.raises(ValueError, match='customized.json: base is .*; expected "another"'):
            load_system("bamfg-101549_0")
    finally:
        facts.write_text(text)
