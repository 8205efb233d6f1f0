"""Options of customized models, searched on two of which nothing is reported: ``python
benchmarks/search.py``.

Customizes the trained model (``dvc repro cache@base`` first) on a fox and on eight Fluent 3D faces
that no reported model has, draws four pictures by each, and scores every choice by the mean average
precision of the exemplars. Writes ``benchmarks/search.csv``; about a quarter of an hour on two CPU
cores. ``params.yaml`` holds what was chosen (``changes.customized``: ``unlearn``, ``compare``).
"""

import os
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ruamel.yaml import YAML

from abu import ROOT
from abu.baselines.evidence import Evidence, Seen
from abu.baselines.registry import METHODS, scores
from abu.core.attribution import Attribution, unlearn_query
from abu.core.unlearn import Newton, score
from abu.data.captions import load_exemplars
from abu.data.images import Images
from abu.data.prepared import Prepared
from abu.data.queries import Queries
from abu.data.readers import read_tensors
from abu.diffusion.customize import CustomRecipe, Lessons, add_token, class_vector, customize
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.encode import prepare
from abu.diffusion.grid import Grid
from abu.diffusion.sample import sample
from abu.diffusion.unet import select_weights
from abu.judge.ranking import average_precision
from abu.study.folders import results
from abu.study.system import load_system
from abu.study.tasks import run_tasks

HANDS = [
    "smiling face with open hands",
    "face with hand over mouth",
    "thinking face",
    "shushing face",
    "saluting face",
    "face with monocle",
    "cowboy hat face",
    "zany face",
]
MODELS = {  # class word, train prompt, exemplars, prompts
    "fox": (
        "cat",
        "<new1> cat",
        {"concept": ["fox"]},
        ["<new1> cat", "noto style <new1> cat", "crying <new1> cat", "<new1> cat with heart-eyes"],
    ),
    "hands": (
        "twemoji",
        "face in <new1> style",
        {"style": ["fluent 3d"], "concept": HANDS},
        [
            "face in <new1> style",
            "happy face in <new1> style",
            "sad face in <new1> style",
            "face with tongue in <new1> style",
        ],
    ),
}
STEPS = [  # steps, relative norm, damping
    (1, 0.05, 10.0),
    (1, 0.05, 0.1),
    (10, 0.05, 10.0),
    (10, 0.05, 1.0),
    (10, 0.05, 0.1),
    (10, 0.05, 0.01),
    (10, 0.02, 0.1),
    (10, 0.1, 0.1),
    (10, 0.2, 0.1),
    (10, 0.2, 0.01),
]
RIDGE, DIMENSION = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0), 4096
TIMESTEPS, FEATURES = list(range(50, 1000, 200)), [150, 500, 850]
TOKEN = "<new1>"


def customized(name: str, options: dict) -> tuple[Attribution, np.ndarray, Seen, torch.Tensor]:
    """One model, its images and queries; which images are exemplars, bool [N]; what shows of them;
    and token states of no caption. ``options``: parameters of the stage ``customize``."""
    word, prompt, keep, prompts = MODELS[name]
    system = load_system()
    draw = lambda components, texts, names: sample(
        system.unet,
        components.scheduler,
        components.texts(texts),
        system.empty,
        names,
        tuple(system.images.latents.shape[2:]),
        **options["sampler"],
    )
    sources = [[Path(options["root"], part) for part in source] for source in options["sources"]]
    records = load_exemplars(sources, keep, prompt, system.images.ids)
    components = add_token(system.components, TOKEN, class_vector(system.components, word))
    numbers = list(range(options["prior"]))
    words = [word] * len(numbers)
    prior = draw(system.components, words, [(0, "prior", name, i) for i in numbers])
    with tempfile.TemporaryDirectory() as folder:
        given = {"side": system.side, "background": system.background}
        prepare(records, components, Path(folder), token_states="float16", **given)
        latents = Prepared(Path(folder)).latents[:, 0]
    ids, captions = [record.id for record in records], [prompt] * len(records)
    lessons = [Lessons(latents, captions, ids, "customize")]
    lessons += [Lessons(prior, words, numbers, "prior", options["prior_weight"])]
    keys = ("steps", "batch_size", "lr", "token_lr", "warmup")
    recipe = CustomRecipe(**{key: options[key] for key in keys})
    customize(system.unet, components, TOKEN, lessons, recipe)
    texts = torch.cat([components.texts(captions).half(), system.images.texts[:, 0]])
    latents = torch.cat([latents, system.images.latents[:, 0]])
    images = Images(ids + system.images.ids, latents[:, None], texts[:, None])
    z = draw(components, prompts, [(0, "search", prompt) for prompt in prompts])
    names = [f"search {prompt}" for prompt in prompts]
    weights = select_weights(system.unet, "cross-attn-kv")
    denoiser = Denoiser(system.unet, components.scheduler, weights, batch_size=128)
    curvature = read_tensors(results("cache") / "curvature.safetensors")
    queries = Queries(names, z, components.texts(prompts))
    shared = Attribution(denoiser, images, Grid(TIMESTEPS, captions=1), curvature, queries)
    seen = Seen([], [], prompts, components.decode(z), Path("results/components"))
    return shared, np.arange(len(images)) < len(ids), seen, system.empty


def search(name: str, options: dict) -> list[dict]:
    """What was tried on one model."""
    shared, right, seen, empty = customized(name, options)
    precision = lambda rows: np.mean([average_precision(row, right) for row in rows])
    before, tried = shared.losses(), []
    for steps, norm, damping in STEPS:
        newton = Newton("diagonal", damping, draws=4, steps=steps, relative_norm=norm)
        after = (unlearn_query(shared, q, newton)["losses"] for q in range(len(shared.queries)))
        found = precision([score(before, losses).numpy() for losses in after])
        row = {"steps": steps, "relative_norm": norm, "damping": damping, "mAP": found}
        tried.append({"model": name, "method": "abu", **row})
        print(tried[-1], flush=True)
    features = replace(shared, grid=Grid(FEATURES))
    evidence = Evidence(features, seen, empty, {}, DIMENSION, 0, run_tasks)
    for method, ridge in product(("trak", "d-trak", "das"), RIDGE):
        assert METHODS[method][2] == ("ridge",)
        chosen = {"ridge": ridge}
        found = precision(scores(method, evidence, chosen))
        tried.append({"model": name, "method": method, **chosen, "mAP": found})
    return tried


if __name__ == "__main__":
    os.chdir(ROOT)
    torch.set_num_threads(os.cpu_count() or 1)
    options = YAML(typ="safe").load(Path("params.yaml"))["customize"]
    table = pd.DataFrame([row for name in MODELS for row in search(name, options)])
    table.round(4).to_csv("benchmarks/search.csv", index=False)
    choices = ["method", "steps", "relative_norm", "damping", "ridge"]
    mean = table.groupby(choices, dropna=False).mAP.mean().reset_index()
    best = mean.sort_values("mAP", ascending=False).groupby("method").head(3)
    print(best.sort_values("method").to_string())
