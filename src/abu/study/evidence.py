"""What methods look at, of a system and its queries, and what their scores cost."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from abu.baselines.evidence import Evidence, Seen
from abu.baselines.registry import METHODS, scores
from abu.core.attribution import Attribution
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid
from abu.diffusion.unet import select_weights
from abu.study.system import System, sampler_of


def evidence_of(
    system: System, asked: tuple, features: dict, seed: int, batch_size: int, run: Callable
) -> Evidence:
    """Evidence of a system's images and of queries, ``asked`` as ``load_queries`` gives them.
    ``features``: ``weights``, ``timesteps``, ``dimension`` and ``cotangents`` of gradients; those
    weights of ``system.unet`` alone ask for a gradient then. ``run``: as ``Evidence`` has it.

    CLIP reads captions without a customized model's tokens, which nobody taught it.
    """
    table, queries, pictures = asked
    weights = select_weights(system.unet, features["weights"])
    parts = system.unet, system.components.scheduler, weights
    denoiser = Denoiser(*parts, str(system.unet.device), batch_size)
    grid = Grid(features["timesteps"], seed)
    shared = Attribution(denoiser, system.images, grid, queries=queries)
    tokens = "|".join(map(re.escape, system.customized.get("token", "\0").split("+")))
    plain = lambda captions: [" ".join(re.sub(tokens, " ", text).split()) for text in captions]
    words = [*map(plain, system.captions)], plain(table.prompt)
    looked = pictures, Path("results/components"), system.background
    seen = Seen(system.table.file.tolist(), *words, *looked)
    sizes = features["dimension"], features["cotangents"]
    return Evidence(shared, seen, system.empty, sampler_of(system.name), *sizes, run)


def scored(
    method: str, evidence: Evidence, options: dict
) -> tuple[np.ndarray, dict[str, float | int]]:
    """Scores [Q, N] of a method, and what they cost, as ``abu.study.costs.record`` takes it; what
    features took counts for each method that asks for them."""
    needs = METHODS[method][1]
    for name in needs:
        evidence(name)
    begin = time.perf_counter()
    values = scores(method, evidence, options)
    solving = time.perf_counter() - begin
    total = lambda spent: sum(spent.get(name, 0) for name in needs)
    each = (total(evidence.each) + solving) / len(evidence.shared.queries)
    cost = {"seconds_once": total(evidence.once), "seconds_per_query": each}
    return values, cost | {"bytes": total(evidence.storage)}
