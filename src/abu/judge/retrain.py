"""Models trained again without some images, and what they make of the queries."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from abu.data.images import Images
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


def retrain(shared: Retraining, removed: Iterable, seed: int, stop: int | None = None) -> Tensors:
    """Task: ``weights``, flat float32, of a model trained from scratch without the images
    ``removed``, and ``training``, its loss at each step; ``stop``: of the first steps alone.

    Raises KeyError for a removed image that the model did not train on.
    """
    gone = set(removed)
    if unknown := gone - set(shared.train_ids):
        found = f"images {sorted(unknown)[:5]} cannot be removed"
        raise KeyError(f"{found}: the model did not train on them")
    keep = [id for id in shared.train_ids if id not in gone]
    device = str(find_device(shared.device))
    given = shared.data, shared.scheduler, shared.recipe, keep, seed, device
    unet, losses, _ = train(*given, progress="", stop=stop)
    weights = parameters_to_vector(cast(nn.Module, unet).parameters()).cpu()
    return {"weights": weights, "training": torch.tensor(losses)}


@dataclass(frozen=True)
class Questions:
    """What models are asked: the losses of ``asked``, of which the first are the ``queries``, at
    ``timesteps`` under each of ``noises`` (seeds); and to draw the queries, as ``seed`` did.

    ``sampler``: options of ``abu.diffusion.sample.sample``.
    """

    asked: Images
    queries: Queries
    timesteps: Sequence[int]
    noises: Sequence[int]
    seed: int
    sampler: dict
    batch_size: int = field(metadata={"hashed": False})


def pictures_asked(queries: Queries, images: Images) -> Images:
    """The queries, and after them images under their first captions, without mirror images."""
    first = queries.images()
    latents = torch.cat([first.latents, images.latents[:, 0].float()[:, None]])
    texts = torch.cat([first.texts, images.texts[:, 0].float()[:, None]])
    return Images([*first.ids, *images.ids], latents, texts)


def ask(shared: tuple[Retraining, Questions], model: Tensors) -> Tensors:
    """Task: what a model (its ``weights``) makes of what it is asked: ``losses`` [A, T, E], and
    what it draws from the queries' noise and prompts, ``drawn`` [Q, c, h, w]."""
    retraining, questions = shared
    unet, queries = retraining.unet(model["weights"]), questions.queries
    scheduler, size = retraining.scheduler, questions.batch_size
    denoiser = Denoiser(unet, scheduler, device=retraining.device, batch_size=size)
    grids = [Grid(questions.timesteps, seed) for seed in questions.noises]
    losses = [loss_table(denoiser, questions.asked, grid)[:, 0, 0] for grid in grids]
    names = [(questions.seed, "query", name) for name in queries.names]
    shape = tuple(queries.latents.shape[1:])
    given = unet, scheduler, queries.texts, retraining.data.empty, names, shape
    return {"losses": torch.stack(losses, -1), "drawn": sample(*given, **questions.sampler)}


def answer(shared: tuple[Retraining, Questions], removed: Iterable, seed: int) -> Tensors:
    """Task: a model without the images ``removed`` is trained and asked, and not kept."""
    model = retrain(shared[0], removed, seed)
    return {"training": model["training"], **ask(shared, model)}
