"""Bad caches, steps, methods, removals and customized systems, and what the study says of them, one
row each. Nothing half-written is left, and no file of data runs code."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from refusing import (
    STEP,
    Bomb,
    after,
    array,
    as_bin,
    asked,
    calling,
    edited,
    one_less,
    pickled,
    refused,
    remove,
    run,
    spoilt,
    tasks,
    torn,
    with_nan,
)

from abu.judge.lds import lds
from abu.judge.left_out import deviations

cache = partial(asked, "cache")
unlearn = lambda **changes: asked("unlearn", **STEP | changes)
cached = lambda name, change: spoilt(f"cache/base/{name}", change, "unlearn", **STEP)
judged = partial(asked, "retrain")


def unlearned_by_another_store() -> None:
    run("unlearn", **STEP)
    array(lambda store: store[..., :64])(Path("results/cache/base/store.npy"))


DIAGONAL = {"curvature": "diagonal", "store": 0}
SHAPE = r"losses.npy has the shape \({}, 2, 2, 2\); its manifest says \(10, 2, 2, {}\)"
CACHES = {
    "unknown weights": (cache(weights="kv"), "weight selection is 'kv'; expected one of"),
    "unknown curvature": (cache(curvature="kfac"), "curvature is 'kfac'"),
    "a store without its curvature": (
        cache(curvature="diagonal"),
        "curvature is 'diagonal', store 1024; .* ekfac for a store",
    ),
    "a store larger than the weights": (
        cache(store=10**6),
        "store is 1000000; expected at most the 16384 coordinates",
    ),
    "a store below 0": (cache(store=-1), "store is -1"),
    "no cotangent": (cache(cotangents=0), "cotangents is 0; expected 1 or more"),
    "no draw of Fisher information": (cache(fisher_draws=0), "fisher_draws is 0"),
    "shards of nothing": (cache(shard=0), "shard is 0"),
    "no timestep": (cache(timesteps=[]), r"timesteps are \[\]; expected some within 0..999"),
    "a timestep outside the schedule": (
        cache(timesteps=[1000]),
        r"timesteps are \[1000\]; expected some within 0..999",
    ),
    "more captions than there are": (cache(captions=9), "captions is 9; the images have 5 each"),
    "no caption": (cache(captions=0), "captions is 0"),
    "rows of nothing": (cache(batch_size=0), "batch_size is 0"),
    "released Fisher information for EK-FAC": (
        cache(fisher="fisher.pt"),
        "cache.fisher is fisher.pt: a diagonal alone",
    ),
    "an unknown engine": (cache(engine="spark"), "engine is 'spark'; expected one of"),
    "an unknown precision": (cache(precision="fp8"), "precision is 'fp8'; expected one of"),
    "EK-FAC of convolutions": (
        cache(weights="all", store=0),
        TypeError,
        "is not the weight of a Linear layer",
    ),
}
UNLEARNED = {
    "a cache of another seed": (unlearn(seed=1), "seed is 0; expected 1"),
    "a cache of another model": (
        cached("manifest.json", edited(model="other")),
        'model is "other"; expected',
    ),
    "a cache of other weights": (
        cached("manifest.json", edited(weights="cross-attn")),
        KeyError,
        "the cache has no diagonal curvature for .*to_q.weight",
    ),
    "losses at other timesteps": (
        cached("manifest.json", edited(timesteps=[500])),
        SHAPE.format(10, 1),
    ),
    "losses of fewer images": (cached("losses.npy", one_less), SHAPE.format(9, 2)),
    "losses that are not finite": (
        cached("losses.npy", with_nan),
        FloatingPointError,
        "losses.npy: 12 of 80 values are not finite",
    ),
    "a pickle in place of losses": (
        cached("losses.npy", pickled),
        "losses.npy holds no array that can be read safely",
    ),
    "curvature that was not cached": (
        after(partial(run, "cache", **DIAGONAL), "unlearn", curvature="ekfac", **STEP),
        KeyError,
        "the cache has no ekfac curvature for .*: cache it with curvature: ekfac",
    ),
    "torn curvature": (
        cached("curvature.safetensors", torn),
        "curvature.safetensors holds no tensors that can be read safely",
    ),
    "another store": (
        after(unlearned_by_another_store, "influence"),
        r"store.npy has the shape .* 64\); its manifest says .* 1024\)",
    ),
    "an unknown curvature of the step": (
        unlearn(curvature="kfac"),
        "curvature is 'kfac'; expected one of",
    ),
    "flips reduced in an unknown way": (
        unlearn(flips_reduce="median"),
        "flips are reduced by 'median'; expected one of",
    ),
    "two lengths of a step": (
        unlearn(alpha=0.1),
        "give one of alpha, relative_norm and rise; found alpha 0.1, relative_norm 0.1",
    ),
    "a step of no length": (
        unlearn(relative_norm=0.0),
        "relative_norm 0.0, rise None; expected a number above 0",
    ),
    "no step": (unlearn(steps=0), "steps is 0"),
    "an N below 1": (unlearn(relative_norm=None, alpha=0.1, n=-5), "n is -5"),
    "negative damping": (unlearn(damping=-1.0), "damping is -1.0; expected a number"),
    "no draw of the gradient": (unlearn(gradient_draws=0), "draws is 0"),
    "a query that is not finite": (
        spoilt("generate/base/latents.npy", with_nan, "unlearn", **STEP),
        FloatingPointError,
        "query gradient of .* not finite",
    ),
    "right images by a field that there is not": (
        after(
            partial(run, "generate", prompts={"plain": {"skull": {"colour": "red"}}}),
            "unlearn",
            **STEP,
        ),
        KeyError,
        "images have no field .'colour'.; expected some of",
    ),
}
FEATURES = {"weights": "cross-attn-kv", "dimension": 64, "cotangents": 0, "timesteps": [500]}
ONE_QUERY = pd.DataFrame(), pd.DataFrame(), {"loss": np.array([[np.nan]])}, 0
OTHERS = {
    "an unknown method": (
        asked("compare", methods=["latent", "tracks"], features=FEATURES, settings={}),
        KeyError,
        "unknown methods .'tracks'.; expected some of",
    ),
    "a sharpness of 0": (asked("tune", sharpness=[0.0]), "sharpness is 0.0; expected a number"),
    "a damping of 0": (asked("tune", whole_damping=[0.0]), "damping is 0.0; expected a number"),
    "no bank to tune by": (
        asked("tune", bank="nowhere"),
        FileNotFoundError,
        "nowhere/bank.json is missing",
    ),
    "a ridge of 0": (asked("tune", ridge=[0.0]), "ridge is 0.0; expected a number above 0"),
    "sketches of no number": (asked("tune", dimension=0), "dimension is 0"),
    "more images removed than there are": (
        judged(k=[10]),
        "k is 10; expected 1 or more, and fewer than the 10 images",
    ),
    "a method that was not compared": (
        judged(methods=["dino"]),
        KeyError,
        "methods .'dino'. were not compared",
    ),
    "a group of no query": (
        judged(groups={"all": ["plian"]}),
        "no query is of the kinds of {'all': .'plian'.}; expected some of",
    ),
    "images to remove that nobody trained on": (
        calling(remove, [3]),
        KeyError,
        r"images \[3\] cannot be removed: the model did not train on them",
    ),
    "losses of queries that are not finite": (
        calling(deviations, *ONE_QUERY),
        FloatingPointError,
        "not every loss of the queries is finite",
    ),
    "scores that are not finite": (
        calling(lds, np.full((1, 4), np.nan), np.ones((3, 4), bool), np.ones((1, 3))),
        FloatingPointError,
        "scores: 4 of 4 values are not finite",
    ),
}
PANDA = {"kind": "customized", "category": "object", "class_word": "cat"}
PANDA |= {"train_prompt": "<new1> cat", "keep": {"concept": ["panda"], "style": ["noto"]}}


def customized(**changes):
    panda = {name: value for name, value in (PANDA | changes).items() if value}
    return asked("customize", system="panda", systems={"panda": panda})


panda = partial(asked, "generate", system="panda")
of_panda = lambda name, change: spoilt(
    f"customize/panda/{name}", change, "generate", system="panda"
)
token = lambda write: of_panda("<new1>.safetensors", as_bin(write))
TASK = {"synth_image_path": "a.png", "prompt": "<new1> cat", "model_path": "models/a"}
TASK |= {"train_prompt": "<new1> cat", "test_case": "one", "category": "cat"}
SYSTEMS = {
    "no such customized model": (
        asked("customize", system="zebra"),
        KeyError,
        "unknown system zebra; expected .*'panda'",
    ),
    "a system that nobody described": (
        asked("customize", system="panda", systems={"zebra": PANDA}),
        KeyError,
        "no customized model 'panda'; expected one of .'zebra'.",
    ),
    "a prompt without the new token": (
        asked("customize", system="panda", token="<new2>"),
        "train prompts lack the token '<new2>'",
    ),
    "a class word of several tokens": (
        customized(class_word="hedgehoggery"),
        "class word 'hedgehoggery' is unknown to the tokenizer",
    ),
    "exemplars that were trained on": (
        customized(keep={"concept": ["skull"]}),
        "exemplars .* of 'panda' were trained on",
    ),
    "exemplars that there are not": (
        customized(keep={"concept": ["pandabear"]}),
        "no exemplar where {'concept': .'pandabear'.}",
    ),
    "a customized model half described": (
        customized(class_word=None, keep=None),
        KeyError,
        "'panda' lacks .'class_word', 'keep'.",
    ),
    "no step of customizing": (asked("customize", system="panda", steps=0), "steps is 0"),
    "a query without the new token": (
        panda(prompts={"object": ["cat"]}),
        "prompts of 'panda' lack its token '<new1>': .'cat'.",
    ),
    "no prompt for the category": (panda(prompts={"style": ["<new1>"]}), "no query"),
    "another base model": (
        of_panda("customized.json", edited(base="another")),
        'base is "another"; expected',
    ),
    "code in a token": (
        token(partial(torch.save, {"<new1>": Bomb()})),
        "<new1>.bin holds no tensors that can be read safely",
    ),
    "a bare pickle in place of a token": (
        token(lambda path: path.write_bytes(pickle.dumps(Bomb(), 2))),
        "<new1>.bin holds no tensors",
    ),
    "a task list in another form": (
        tasks({"tasks": []}),
        "is not a task list: expected a json list of rows",
    ),
    "a task without its fields": (tasks([{"prompt": "a"}]), "row 0 lacks .'synth_image_path'"),
    "a task without its exemplars": (
        tasks([TASK]),
        IndexError,
        "lists 0 cases; the task list asks for number 0",
    ),
}
test_it_is_refused = refused(CACHES | UNLEARNED | OTHERS | SYSTEMS)
