"""The cache of a system: what it is asked for, checked before anything is computed, and what it
left."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from abu.core.attribution import Attribution
from abu.core.curvature import CURVATURES
from abu.core.store import Basis, leading
from abu.data.checks import check_counts, check_finite
from abu.data.manifest import check_manifest, fingerprint
from abu.data.readers import read_array, read_tensors
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid
from abu.diffusion.unet import select_weights
from abu.study.folders import BASE, read_json, results
from abu.study.system import System

SIZES = ("alpha", "relative_norm", "rise")  # of a step: one of them
GRID = ("timesteps", "seed", "captions", "flips", "spread")  # of a manifest: those of its grid


def plan_cache(
    system: System, options: dict, seed: int, batch_size: int, device: str, speed: dict
) -> tuple[dict, Attribution]:
    """Manifest of a cache, and what its tasks share. ``options``: parameters of the stage.

    Raises ValueError for options that do not go together or ask for what the images do not have.
    """
    curvature, store, fisher = (options[name] for name in ("curvature", "store", "fisher"))
    if curvature not in CURVATURES or (store and curvature != "ekfac"):
        expected = f"expected one of {CURVATURES}, and ekfac for a store"
        raise ValueError(f"curvature is {curvature!r}, store {store}; {expected}")
    if store and system.name != BASE:  # a question's basis is that of the trained model's cache
        raise ValueError(f"store is {store}; a customized model has none: expected 0")
    weights = select_weights(system.unet, options["weights"])
    size = sum(system.unet.get_parameter(name).numel() for name in weights)
    if not 0 <= store <= size:
        expected = f"expected at most the {size} coordinates of the attributed weights"
        raise ValueError(f"store is {store}; {expected}")
    check_counts(**{name: options[name] for name in ("fisher_draws", "cotangents")})
    captions, images = options["captions"], system.images
    if captions > images.texts.shape[1] and system.name == BASE:
        raise ValueError(f"captions is {captions}; the images have {images.texts.shape[1]} each")
    if options["flips"] and images.latents.shape[1] < 2:
        raise ValueError(
            "cache.flips asks for mirror images; the latents in results/prepare have none"
        )
    if fisher and curvature == "ekfac":
        expected = "expected curvature diagonal, found ekfac"
        raise ValueError(f"cache.fisher is {fisher}: a diagonal alone; {expected}")
    names = ("weights", "timesteps", "captions", "spread", "flips", "curvature", "fisher_draws")
    names += ("store", "cotangents")
    manifest = {**system.facts, **{name: options[name] for name in names}}
    manifest |= {"precision": speed["precision"], "seed": seed}
    manifest |= {"fisher": fisher and fingerprint(Path(fisher))}
    grid, scheduler = Grid(**{name: manifest[name] for name in GRID}), system.components.scheduler
    denoiser = Denoiser(system.unet, scheduler, weights, device, batch_size, speed)
    return manifest, Attribution(denoiser, images, grid)


@dataclass(frozen=True)
class Cached:
    """What ``cache`` left of a system: its ``manifest``, ``losses`` [N, F, C, T], and the
    ``attribution``, without queries, under whose grid they were taken."""

    manifest: dict
    losses: Tensor
    attribution: Attribution


LOOKED_AT, OFF = 4, 0.02  # on another processor, or in bf16, losses differ by less


def load_cached(
    system: System, seed: int, batch_size: int, device: torch.device, speed: dict
) -> Cached:
    """The cache of a system. Fisher information is that of the trained model, also where a
    customized one is asked.

    Raises ValueError where a cache is of another model, seed, precision or other images than those
    of the system, and names the field that differs.
    """
    folder, base = results("cache", system.name), results("cache")
    expected = {"precision": speed["precision"], "seed": seed, **system.facts}
    manifest = check_manifest(folder / "manifest.json", expected)
    same = {"weights": manifest["weights"], "seed": seed, "model": system.trained["model"]}
    check_manifest(base / "manifest.json", same)
    weights = select_weights(system.unet, manifest["weights"])
    grid, scheduler = Grid(**{name: manifest[name] for name in GRID}), system.components.scheduler
    denoiser = Denoiser(system.unet, scheduler, weights, str(device), batch_size, speed)
    curvature = read_tensors(base / "curvature.safetensors")
    losses = torch.from_numpy(read_cache(folder, manifest))
    return Cached(manifest, losses, Attribution(denoiser, system.images, grid, curvature))


def read_cache(
    folder: Path, manifest: dict, mmap_mode: str | None = None, name: str = "losses"
) -> np.ndarray:
    """``losses`` [N, F, C, T] or ``store`` [N, F, C, T, 1 + cotangents, p] of a cache.

    Raises ValueError where it does not fit the cache's ``manifest``, FloatingPointError for losses
    that are not finite.
    """
    path = folder / f"{name}.npy"
    array = read_array(path, mmap_mode)
    # flips and captions: as many as the images have
    shape = (len(manifest["ids"]), *array.shape[1:3], len(manifest["timesteps"]))
    shape += (1 + manifest["cotangents"], manifest["store"]) if name == "store" else ()
    if array.shape != shape:
        raise ValueError(f"{path} has the shape {array.shape}; its manifest says {shape}")
    if name == "losses":
        check_finite(str(path), torch.from_numpy(array))
    return array


def load_store(cached: Cached) -> tuple[Basis, np.ndarray]:
    """The basis of the trained model's store, and the store, of which nothing is read yet."""
    shared, manifest = cached.attribution, cached.manifest
    basis = leading(shared.curvature, shared.denoiser.weights, manifest["store"])
    return basis, read_cache(results("cache"), manifest, "c", "store")


def newton_chosen(newton: dict, method: str, system: str = BASE) -> dict:
    """Options of a step; its damping, and its length (``SIZES``) where none is given, as ``tune``
    chose them for a method. Raises ValueError for a customized ``system`` that lacks one: ``tune``
    knows the trained model alone."""
    sized = any(newton.get(name) is not None for name in SIZES)
    if sized and newton.get("damping") is not None:
        return newton
    if system != BASE:
        expected = f"expected a damping, and one of {SIZES}"
        raise ValueError(f"changes.customized.unlearn makes {newton} of {system!r}; {expected}")
    chosen = read_json(results("tune") / "chosen.json")[method]
    size = {} if sized else {name: chosen[name] for name in SIZES if name in chosen}
    damping = chosen["damping"] if newton.get("damping") is None else newton["damping"]
    return {**newton, **size, "damping": damping}


def spread(count: int, every: int) -> list[int]:
    """Numbers of every so many of ``count`` timesteps, from the middle of the first so many; at
    least one."""
    return list(range(min(every // 2, count - 1), count, every))


def every_timestep(cached: Cached, every: int) -> Cached:
    """The cache at every so many of its timesteps. Raises ValueError where the model as it stands
    has other losses of the first ``LOOKED_AT`` images, by more than ``OFF`` of their mean: under
    another noise or caption a score would be the difference of two draws."""
    grid = cached.attribution.grid
    some = spread(len(grid.timesteps), every)
    shared, losses = replace(cached.attribution, grid=grid.part(some)), cached.losses[..., some]
    now, before = replace(shared, images=shared.images[:LOOKED_AT]).losses(), losses[:LOOKED_AT]
    off = float((now - before).abs().max() / before.mean())
    if not off <= OFF:
        message = f"losses of the first images are off by up to {off:.2g} of their mean from those"
        raise ValueError(f"{message} that were cached; expected at most {OFF}: run cache")
    return Cached(cached.manifest, losses, shared)
