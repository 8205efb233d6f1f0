"""Models trained again without some images, and what they make of the queries."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from diffusers import UNet2DConditionModel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from abu.data.prepared import Prepared
from abu.diffusion.device import find_device
from abu.diffusion.losses import loss_table
from abu.diffusion.sample import sample
from abu.diffusion.train import train


@dataclass(frozen=True)
class Recipe:
    """What every retraining shares; ``config`` and ``options`` are those of ``abu.diffusion.train.train``."""

    data: Prepared
    scheduler: object
    config: dict
    options: dict
    train_ids: list[int]
    device: str = field(metadata={"hashed": False})

    def unet(self, weights: torch.Tensor) -> UNet2DConditionModel:
        """The U-Net with the given weights, flat."""
        unet = UNet2DConditionModel(**self.config).requires_grad_(False)
        vector_to_parameters(weights, unet.parameters())
        return unet.to(find_device(self.device)).eval()


def retrain(recipe: Recipe, removed: Iterable[int], seed: int) -> torch.Tensor:
    """Weights, flat float32, of a model trained from scratch without the images ``removed``.

    Raises KeyError for a removed image that the model did not train on.
    """
    gone = set(removed)
    if unknown := gone - set(recipe.train_ids):
        raise KeyError(
            f"images {sorted(unknown)[:5]} cannot be removed: the model did not train on them"
        )
    keep = [id for id in recipe.train_ids if id not in gone]
    unet, *_ = train(
        recipe.data,
        recipe.scheduler,
        recipe.config,
        keep,
        **{**recipe.options, "seed": seed},
        device=str(find_device(recipe.device)),
        progress="",
    )
    return parameters_to_vector(unet.parameters()).cpu()


@dataclass(frozen=True)
class Questions:
    """The queries and how they are asked: latents [Q, c, h, w], token states [Q, L, D], names."""

    latents: torch.Tensor
    texts: torch.Tensor
    names: list[str]
    timesteps: list[int]
    sampler: dict  # options of abu.sample.sample
    seed: int
    batch_size: int = field(metadata={"hashed": False})


def ask(shared: tuple[Recipe, Questions], weights: torch.Tensor) -> torch.Tensor:
    """Answers [Q, 1 + c*h*w] of one model: each query's loss, and what the model draws from its noise and prompt."""
    recipe, questions = shared
    unet = recipe.unet(weights)
    z, texts = questions.latents, questions.texts
    losses = (
        loss_table(
            unet,
            recipe.scheduler,
            z[:, None],
            texts[:, None],
            [f"query {name}" for name in questions.names],
            questions.timesteps,
            questions.seed,
            questions.batch_size,
        )
        .flatten(1)
        .mean(1)
    )
    names = [(questions.seed, "query", name) for name in questions.names]
    drawn = sample(
        unet,
        recipe.scheduler,
        texts,
        recipe.data.empty,
        names,
        tuple(z.shape[1:]),
        **questions.sampler,
    )
    return torch.cat([losses[:, None], drawn.flatten(1)], 1)
