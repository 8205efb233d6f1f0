"""Models trained again without some images, and what they make of the queries."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from abu.data.prepared import Prepared
from abu.data.queries import Queries
from abu.data.readers import Tensors
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.device import find_device
from abu.diffusion.grid import Grid
from abu.diffusion.losses import loss_table
from abu.diffusion.sample import sample
from abu.diffusion.train import Recipe, train


@dataclass(frozen=True)
class Retraining:
    """What every retraining shares: data, scheduler, recipe, and the images that the model in
    question was trained on."""

    data: Prepared
    scheduler: Any  # of diffusers
    recipe: Recipe
    train_ids: list[int]
    device: str = field(metadata={"hashed": False})

    def unet(self, weights: torch.Tensor) -> nn.Module:
        """The U-Net with the given weights, flat."""
        unet: Any = UNet2DConditionModel(**self.recipe.config)
        unet.requires_grad_(False)
        vector_to_parameters(weights, unet.parameters())
        return unet.to(find_device(self.device)).eval()


def retrain(shared: Retraining, removed: Iterable[int], seed: int) -> Tensors:
    """Task: ``weights``, flat float32, of a model trained from scratch without the images
    ``removed``.

    Raises KeyError for a removed image that the model did not train on.
    """
    gone = set(removed)
    if unknown := gone - set(shared.train_ids):
        found = f"images {sorted(unknown)[:5]} cannot be removed"
        raise KeyError(f"{found}: the model did not train on them")
    keep = [id for id in shared.train_ids if id not in gone]
    device = str(find_device(shared.device))
    given = shared.data, shared.scheduler, shared.recipe, keep, seed, device
    unet: Any = train(*given, progress="")[0]
    return {"weights": parameters_to_vector(unet.parameters()).cpu()}


@dataclass(frozen=True)
class Questions:
    """The queries and how they are asked: timesteps of their losses, options of
    ``abu.diffusion.sample.sample``."""

    queries: Queries
    grid: Grid
    sampler: dict
    batch_size: int = field(metadata={"hashed": False})


def ask(shared: tuple[Retraining, Questions], model: Tensors) -> Tensors:
    """Task: what a model (its ``weights``) makes of the queries: their ``losses`` [Q], and what it
    draws from their noise and prompts, ``drawn`` [Q, c, h, w]."""
    retraining, questions = shared
    unet, queries, grid = retraining.unet(model["weights"]), questions.queries, questions.grid
    scheduler, size = retraining.scheduler, questions.batch_size
    denoiser = Denoiser(unet, scheduler, device=retraining.device, batch_size=size)
    losses = loss_table(denoiser, queries.images(), grid).flatten(1).mean(1)
    names = [(grid.seed, "query", name) for name in queries.names]
    shape = tuple(queries.latents.shape[1:])
    given = unet, scheduler, queries.texts, retraining.data.empty, names, shape
    return {"losses": losses, "drawn": sample(*given, **questions.sampler)}
