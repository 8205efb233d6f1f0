"""The tasks of ``cache`` and ``unlearn``: shards of images, and queries."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from abu.fisher import fisher_diagonal, query_gradient
from abu.losses import loss_table
from abu.models import find_device
from abu.unlearn import Tensors, moved, norm, unlearn


@dataclass(frozen=True)
class Attributed:
    """A trained model, its attributed weights, and the training images to which they are attributed.

    ``latents``: [N, F, c, h, w] (image and, where F = 2, mirror image); ``texts``: [N, C, L, D].
    """

    unet: torch.nn.Module
    scheduler: object
    weights: list[str]
    latents: Tensor
    texts: Tensor
    ids: list[int]
    timesteps: list[int]
    seed: int
    batch_size: int
    device: str
    captions: int = 1  # scored of each image, the first ones
    fisher: Tensors = field(default_factory=dict)
    queries: tuple = ()  # latents [Q, c, h, w], token states [Q, L, D], names

    def model(self) -> torch.nn.Module:
        """The model, on the device of whoever runs the task."""
        return self.unet.to(find_device(self.device))

    def losses(self, first: int = 0, last: int | None = None) -> Tensor:
        """Losses [n, F, C, T] of a range of the images."""
        part = slice(first, last)
        return loss_table(
            self.model(), self.scheduler, self.latents[part], self.texts[part, : self.captions], self.ids[part],
            self.timesteps, self.seed, self.batch_size,
        )

    def query_losses(self) -> Tensor:
        """Losses [Q, T] of all queries, under noise named by the query."""
        z, texts, names = self.queries
        named = [f"query {name}" for name in names]
        return loss_table(
            self.model(), self.scheduler, z[:, None], texts[:, None], named, self.timesteps, self.seed, self.batch_size
        ).flatten(1)


def shards(n: int, size: int) -> dict[str, tuple[int, int]]:
    """Ranges of ``n`` images by name; the names and ranges of full shards do not depend on n."""
    return {f"{first}-{min(first + size, n)}": (first, min(first + size, n)) for first in range(0, n, size)}


def losses_of(shared: Attributed, first: int, last: int) -> Tensor:
    """Task: losses [n, F, C, T] of a shard."""
    return shared.losses(first, last)


def fisher_of(shared: Attributed, draws: int, first: int, last: int) -> Tensor:
    """Task: Fisher's diagonal, summed over the images of a shard, flat float64 in the order of the weights."""
    unet = shared.model()

    def example(i: int, flip: int, caption: int) -> tuple[Tensor, Tensor]:
        row = first + i
        return shared.latents[row, flip % shared.latents.shape[1]], shared.texts[row, caption % shared.texts.shape[1]]

    ids = shared.ids[first:last]
    fisher = fisher_diagonal(unet, shared.scheduler, shared.weights, example, ids, draws, shared.seed, shared.batch_size)
    return torch.cat([fisher[name].flatten() for name in shared.weights]).cpu() * len(ids)


def unlearn_query(shared: Attributed, q: int, draws: int, options: dict) -> Tensor:
    """Task: unlearn query number ``q``; relative length of the move, losses of all images [N*F*C*T] and queries [Q*T].

    ``options``: those of ``abu.unlearn.unlearn``.
    """
    unet = shared.model()
    device = next(unet.parameters()).device
    z, texts, names = shared.queries

    def gradient(model: torch.nn.Module, step: int) -> Tensors:
        key = (shared.seed, "unlearn", names[q], step)
        arguments = (z[q], texts[q], key, shared.timesteps, draws, shared.batch_size)
        return query_gradient(model, shared.scheduler, shared.weights, *arguments)[1]

    fisher = {name: value.to(device) for name, value in shared.fisher.items()}
    delta = unlearn(unet, gradient, fisher, n=len(shared.ids), **options)
    size = norm({name: unet.get_parameter(name).detach() for name in shared.weights})
    with moved(unet, delta):
        tables = shared.losses(), shared.query_losses()
    return torch.cat([torch.tensor([norm(delta) / size]), *(table.flatten() for table in tables)])
