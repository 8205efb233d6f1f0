"""Options of the second study, searched on two customized models of which nothing is reported: ``python benchmarks/search.py``.

Customizes the trained model (``dvc repro cache`` first) on a fox and on eight Fluent 3D faces that no reported model has, draws four
pictures by each, and scores every choice by the mean average precision of the exemplars. Writes ``benchmarks/search.csv``; about
a quarter of an hour on two CPU cores. ``params.yaml`` holds what was chosen (``unlearn-customized``, ``compare-customized``).
"""

import os
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file

from abu import ROOT
from abu.baselines.evidence import Evidence
from abu.baselines.registry import METHODS, scores
from abu.core.jobs import Attributed, unlearn_query
from abu.core.unlearn import score
from abu.data.captions import load_exemplars
from abu.data.prepared import Prepared
from abu.diffusion.customize import add_token, class_vector, customize
from abu.diffusion.encode import prepare
from abu.diffusion.sample import sample
from abu.diffusion.unet import select_weights
from abu.judge.ranking import average_precision
from abu.study.system import load_system
from abu.study.tasks import run_tasks

HANDS = ["smiling face with open hands", "face with hand over mouth", "thinking face", "shushing face", "saluting face", "face with monocle", "cowboy hat face", "zany face"]
MODELS = {  # class word, train prompt, exemplars, prompts
    "fox": ("cat", "<new1> cat", {"concept": ["fox"]}, ["<new1> cat", "noto style <new1> cat", "crying <new1> cat", "<new1> cat with heart-eyes"]),
    "hands": ("twemoji", "face in <new1> style", {"style": ["fluent 3d"], "concept": HANDS},
              ["face in <new1> style", "happy face in <new1> style", "sad face in <new1> style", "face with tongue in <new1> style"]),
}  # fmt: skip
STEPS = [(1, 0.05, 10.0), (1, 0.05, 0.1), (10, 0.05, 10.0), (10, 0.05, 1.0), (10, 0.05, 0.1), (10, 0.05, 0.01), (10, 0.02, 0.1), (10, 0.1, 0.1), (10, 0.2, 0.1), (10, 0.2, 0.01)]
RIDGE, PROJECTION = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0), (1024, 4096)
TIMESTEPS, FEATURES = list(range(50, 1000, 200)), [150, 500, 850]


def search(name: str, options: dict) -> list[dict]:
    """What was tried on one model."""
    word, prompt, keep, prompts = MODELS[name]
    system = load_system()
    sources = [[Path(options["root"], part) for part in source] for source in options["sources"]]
    records = load_exemplars(sources, keep, prompt)
    components = add_token(system.components, "<new1>", class_vector(system.components, word))
    shape = tuple(system.latents.shape[2:])
    words, names = [word] * options["prior"], [(0, "prior", name, i) for i in range(options["prior"])]
    prior = (sample(system.unet, components.scheduler, system.components.texts(words), system.empty, names, shape, **options["sampler"]), words)
    with tempfile.TemporaryDirectory() as folder:
        prepare(records, components, Path(folder), system.side, "float16")
        latents = Prepared(Path(folder)).latents[:, 0]
    ids = [record.id for record in records]
    keys = ("steps", "batch_size", "lr", "token_lr", "warmup")
    customize(system.unet, components, "<new1>", latents, [prompt] * len(ids), ids, **{k: options[k] for k in keys}, prior=prior, prior_weight=options["prior_weight"])
    texts, asked = components.texts([prompt] * len(ids))[:, None].half(), components.texts(prompts)
    z = sample(system.unet, components.scheduler, asked, system.empty, [(0, "search", p) for p in prompts], shape, **options["sampler"])
    shared = Attributed(
        system.unet, components.scheduler, select_weights(system.unet, "cross-attn-kv"), torch.cat([latents, system.latents[:, 0]])[:, None],
        torch.cat([texts, system.texts[:, 0][:, None]]), ids + system.ids, TIMESTEPS, 0, 128, "cpu", 1,
        load_file("results/cache/curvature.safetensors"), (z, asked, [f"search {p}" for p in prompts]),
    )
    right = np.arange(len(shared.ids)) < len(ids)
    before, tried = shared.losses(), []
    for steps, norm, damping in STEPS:
        moved = [unlearn_query(shared, q, 4, "diagonal", damping, {"steps": steps, "relative_norm": norm})[1 : 1 + before.numel()] for q in range(len(z))]
        found = [average_precision(score(before, after.reshape(before.shape)).numpy(), right) for after in moved]
        tried.append({"model": name, "method": "abu", "steps": steps, "relative_norm": norm, "damping": damping, "mAP": np.mean(found)})
        print(tried[-1], flush=True)
    features = Attributed(**{**vars(shared), "timesteps": FEATURES})
    evidence = Evidence(features, components, [], [], prompts, components.decode(z), system.empty, {}, max(PROJECTION), "", None, run_tasks)
    for method, ridge, projection in product(("trak", "d-trak", "das"), RIDGE, PROJECTION):
        assert METHODS[method][2] == ("ridge", "projection")
        found = scores(method, evidence, {"ridge": ridge, "projection": projection})
        tried.append({"model": name, "method": method, "ridge": ridge, "projection": projection, "mAP": np.mean([average_precision(row, right) for row in found])})
    return tried


if __name__ == "__main__":
    os.chdir(ROOT)
    torch.set_num_threads(os.cpu_count() or 1)
    options = YAML(typ="safe").load(Path("params.yaml"))["customize"]
    table = pd.DataFrame([row for name in MODELS for row in search(name, options)])
    table.round(4).to_csv("benchmarks/search.csv", index=False)
    mean = table.groupby(["method", "steps", "relative_norm", "damping", "ridge", "projection"], dropna=False).mAP.mean().reset_index()
    print(mean.sort_values("mAP", ascending=False).groupby("method").head(3).sort_values("method").to_string())
