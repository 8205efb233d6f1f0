"""What a study costs, by its parameters; without CLIP, DINO, figures, statistics, kernel algebra,
answers of the store, captions encoded on the fly, and what ``scratch/`` holds."""

import os
from collections import Counter
from math import prod
from pathlib import Path

import pandas as pd

from abu.baselines.registry import METHODS
from abu.core.attribution import RISE_DRAWS
from abu.data.progress import track
from abu.data.published import model_name
from abu.diffusion.device import find_device
from abu.study.caching import spread
from abu.study.footprint import Bench, measure


def plan(study: dict, data: tuple, seconds: float, start: tuple, device="cpu") -> pd.DataFrame:
    """By stage and system: seconds; bytes of memory, of an accelerator, of disk. ``data``: images,
    and captions of each; ``start``: seconds and bytes of a stage that does nothing."""
    table, systems, common = [], study["systems"], study["common"]
    pool = (common["threads"] or os.cpu_count() or 1) // common["task_cpus"]
    pool = pool if common["engine"] == "pool" and find_device(device).type == "cpu" else 0
    each = ("customize", "generate", "cache", "unlearn", "compare")  # once for a system
    for kind in dict.fromkeys(system["kind"] for system in systems.values()):
        bench, idle = Bench(study, kind, device), study["changes"][kind]
        names = [name for name in systems if systems[name]["kind"] == kind]
        counted = [(name, *row) for name in names for row in stages(bench, name, *data)]
        counted = [row for row in counted if idle.get(row[1], {}) is not None]
        used = sorted({work for row in counted for work in +row[2]})
        rates = {work: measure(bench, work, seconds) for work in track(used, kind)}
        for system, stage, work, disk, held in counted:
            spent = start[0] + sum(rates[name][0] * units for name, units in (+work).items())
            memory, accelerator = map(max, zip((start[1], 0), *(rates[name][1:] for name in +work)))
            if stage in TASKS:  # those of a pool, beside the process that waits for them
                memory = memory if pool < 2 else start[1] + pool * memory
            place = stage, system if stage in each else ""
            table.append((*place, spent, memory + held, accelerator, disk))
    columns = ["stage", "system", "seconds", "memory", "accelerator", "disk"]
    return pd.DataFrame(table, columns=columns).set_index(columns[:2])


TASKS = ("cache", "unlearn", "tune", "localize", "influence", "compare")  # made of tasks
RISE_TRIES = 12  # moves that are measured until one raises the loss as asked, about


def stages(bench: Bench, system: str, images: int, captions: int, exemplars: int = 8):
    """A system's stages: name, units of work by kind (of ``Bench``), bytes left, bytes held."""
    study, what, cache = bench.study, bench.study["systems"][system], bench.cache
    train, prepare, c = (study[name] for name in ("train", "prepare", "customize"))
    prompts, tuned, steps = (bench.of("generate")[n] for n in ("prompts", "tuning", "steps"))
    custom = what["kind"] == "customized"
    here = not train["source"] or Path(train["source"], "train.json").is_file()  # it is trained
    count = lambda prompts: sum(p if isinstance(p, int) else len(p) for p in prompts.values())
    tuning = 0 if custom else count(tuned)
    drawn = count(prompts) + tuning
    if custom:  # asked by system or category, or as published
        drawn = len(prompts.get(system) or prompts.get(what.get("category")) or [])
        if c["tasks"]:
            paths = pd.read_json(Path(c["root"], c["tasks"])).model_path
            drawn = list(map(model_name, paths)).count(system)
    q, times = drawn - tuning, len(cache["timesteps"])
    n = images - here * train["heldout"] + custom * exemplars
    met, store = min(cache["captions"], 1 if custom else captions), cache["store"]
    walked = n * met * (1 + cache["flips"]) * times  # gradients are taken of every caption
    rows = walked // met if cache["spread"] else walked  # of a table of losses
    shapes, fits = list(bench.shared(1).shapes().values()), ["identity", "diagonal", "ekfac"]
    size, fits = sum(map(prod, shapes)), fits.index(cache["curvature"])  # ekfac: eigenvalues too
    curvature = 8 * (fits * size + (fits > 1) * sum(side**2 for shape in shapes for side in shape))
    latent, text, pixels = prod(bench.latent), prod(bench.tokens), 3 * bench.side**2
    states = text * {"float32": 4, "float16": 2}.get(prepare["token_states"], 4 / bench.tokens[1])
    held = 24 * rows + 40 * q * n + curvature
    picture = lambda n, steps: Counter(sample=n * steps, prepare=n)

    def unlearn(c: dict, tasks: int, queries: int) -> Counter:
        at = len(spread(times, c["every"])) * tasks
        tried = RISE_DRAWS * RISE_TRIES if c.get("relative_norm", c.get("alpha")) is None else 0
        gradient, losses = c["gradient_draws"], rows // times + queries
        steps = at * c.get("steps", 1)
        return Counter(gradient=steps * gradient, losses=at * losses + steps * tried)

    def sketch(c: dict, methods: list[str], images: int, queries: int) -> Counter:
        needs = {name for m in methods for name in METHODS[m][1] if " " in name}
        path = queries * steps * ("journey gradients" in needs)
        pictures = (images + queries) * any("gradients" in name or "rows" in name for name in needs)
        return Counter(features=pictures * len(c["timesteps"]) + path, sample=path)

    learn = custom and not c["tasks"]
    work = picture(learn * c["prior"] + custom * exemplars, c["sampler"]["steps"])
    work["train"] = 2 * learn * c["steps"] * c["batch_size"]  # beside the prior
    yield "customize", work, custom * (4 * size + exemplars * (8 * latent + states)), 0
    left = 4 * drawn * (latent + text + pixels)
    yield "generate", picture(drawn, steps), left, 2 * left
    draws = 0 if cache["fisher"] else fits * n * cache["fisher_draws"]
    work = Counter(losses=rows, fisher=draws, influence=walked * (store > 0))
    stored = 2 * walked * (1 + cache["cotangents"]) * store
    yield "cache", work, curvature + 4 * rows + stored, held + stored * min(1, cache["shard"] / n)
    yield "unlearn", unlearn(bench.of("unlearn"), q, q), q * (4 * rows + 18 * n), held
    c, tune, square = bench.of("compare"), study["tune"], 32 * min(n, bench.like["dimension"]) ** 2
    work = sketch(bench.like, c["methods"], n if c["features"] else 0, q)
    yield "compare", work, 10 * q * n * (len(c["methods"]) + 6), 4 * held + square
    if custom:
        return
    yield "components", Counter(), sum(4 * model.num_parameters() for model in bench.frozen), 0
    work = Counter(prepare=images, text=images * captions) if not prepare["latents"] else Counter()
    yield "prepare", work, images * (8 * latent + captions * states), 0
    learned = here * train["steps"] * train["batch_size"] * n / images
    share = train["replay"] / train["steps"] if train["source"] else 1  # of it that is trained
    telling = 2 * min(images, 100)  # pictures that tell hits
    left = 4 * bench.unet.num_parameters()
    yield "train", Counter(train=learned * share) + picture(telling, 25), left, 0
    yield "exemplars", Counter(), 7e5, 0
    yield "report", Counter(), 3e6, 0
    if what["kind"] != "base":
        return
    dampings = len(tune["damping"]) + (store > 0) * len(tune["plus_damping"])
    tries = tuning * len(tune["rise"]) * dampings
    work = sketch(tune, [m for m in METHODS if METHODS[m][2]], n, tuning)
    work += unlearn(tune, tries, tuning)
    yield "tune", work, 5e3, held + square
    c, questions = study["localize"], 3 * len(study["localize"]["pairs"])
    work = unlearn(c, questions * len(c["prompts"]), questions)
    yield "localize", work, questions * 10 * n + 5e5, held
    c, r = study["influence"], study["retrain"]
    again = c["probes"] * (len(c["probe_norms"]) + 4) + c["candidates"] * (q if store else 1)
    at = len(spread(times, c["every"]))
    work = Counter(gradient=q * c["gradient_draws"] * at, losses=again * rows * at // times)
    work["influence"] = 0 if store else walked
    yield "influence", work, 50 * q * n, held + 12 * q * size
    groups = len(r["groups"]) or q
    removals = (len(r["methods"]) + r["draws"]) * len(r["k"]) * groups * len(r["seeds"])
    again = len({*r["seeds"], *r["floors"]}) + bool(r["methods"]) * removals
    squares = r["latin"] and len(r["latin"]["squares"]) * len(r["latin"]["methods"])
    if squares and not r["bank"]:
        again += squares * r["latin"]["queries"] // r["latin"]["group"]
    halves, whole = 2 * sum(r["pairs"]), len(r["full_seeds"])
    learns = halves / 2 + whole + again - 1
    if r["bank"]:  # one half is audited, one begun
        halves, whole = int(r["audit"] is not None), 0
        learns = halves / 2 + r["replay"] / train["steps"] / 2 + again - 1
    models, met = again + halves + whole, drawn + r["heldin"] + train["heldout"]
    work = Counter(losses=models * met * len(r["timesteps"]) * len(r["noises"]))
    work["train"] = learns * learned
    if here:
        yield "retrain", work + picture(models * drawn, steps), again * (4 * q * latent + n), 0
        yield "evaluate", Counter(prepare=again * q), 5 * q * pixels, 8 * again * q * pixels
