"""The tasks of ``cache`` and ``unlearn``: shards of images, and queries."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from abu.core.curvature import factors, precondition, rotated_squares, squares, summed
from abu.core.fisher import per_example, query_gradient
from abu.core.influence import first_order, forward_mode, gauss_newton
from abu.core.store import Basis, project
from abu.core.unlearn import moved, norm, unlearn
from abu.data.checks import check_counts, check_finite
from abu.data.readers import Tensors, read_array
from abu.data.rows import Rows
from abu.diffusion.device import find_device
from abu.diffusion.losses import check_timesteps, loss_table
from abu.diffusion.unet import speed_up


@dataclass(frozen=True)
class Attributed:
    """A trained model, its attributed weights, and the training images to which they are attributed.

    ``latents``: [N, F, c, h, w] (image and, where F = 2, mirror image); ``texts``: [N, C, L, D]. Raises ValueError for timesteps
    outside the scheduler's, or a batch or captions below 1.
    """

    unet: torch.nn.Module
    scheduler: object
    weights: list[str]
    latents: Tensor | Rows
    texts: Tensor | Rows
    ids: list[int]
    timesteps: list[int]
    seed: int
    # both change results by rounding alone: what was finished elsewhere counts as finished
    batch_size: int = field(metadata={"hashed": False})
    device: str = field(metadata={"hashed": False})
    captions: int = 1  # scored of each image, the first ones
    curvature: Tensors = field(default_factory=dict)  # see abu.curvature
    queries: tuple = ()  # latents [Q, c, h, w], token states [Q, L, D], names
    spread: bool = False  # one caption a timestep, in turn, in place of every pair
    speed: dict = field(default_factory=dict)  # options of abu.models.speed_up
    regions: tuple = ()  # of each query, weights [h, w] of its latents' places, or None: the whole picture

    def __post_init__(self):
        check_timesteps(self.scheduler, self.timesteps)
        check_counts(batch_size=self.batch_size, captions=self.captions)

    def model(self) -> torch.nn.Module:
        """The model, on the device of whoever runs the task."""
        return speed_up(self.unet.to(find_device(self.device)), **self.speed)

    def losses(self, first: int = 0, last: int | None = None) -> Tensor:
        """Losses [n, F, C, T] of a range of the images."""
        part = slice(first, last)
        return loss_table(
            self.model(),
            self.scheduler,
            self.latents[part],
            self.texts[part, : self.captions],
            self.ids[part],
            self.timesteps,
            self.seed,
            self.batch_size,
            spread=self.spread,
        )

    def query_losses(self) -> Tensor:
        """Losses [Q, T] of all queries, under noise named by the query."""
        z, texts, names = self.queries
        named = [f"query {name}" for name in names]
        return loss_table(
            self.model(),
            self.scheduler,
            z[:, None],
            texts[:, None],
            named,
            self.timesteps,
            self.seed,
            self.batch_size,
        ).flatten(1)


def shards(n: int, size: int) -> dict[str, tuple[int, int]]:
    """Ranges of ``n`` images by name; the names and ranges of full shards do not depend on n."""
    return {
        f"{first}-{min(first + size, n)}": (first, min(first + size, n))
        for first in range(0, n, size)
    }


def read_cache(
    folder: Path, manifest: dict, mmap_mode: str | None = None, name: str = "losses"
) -> np.ndarray:
    """``losses`` [N, F, C, T] or ``store`` [N, F, C, T, 1 + cotangents, p] of a cache; raises ValueError where it does not fit the
    cache's ``manifest``, FloatingPointError for losses that are not finite."""
    path = folder / f"{name}.npy"
    array = read_array(path, mmap_mode)
    shape = (
        len(manifest["ids"]),
        *array.shape[1:3],
        len(manifest["timesteps"]),
    )  # flips and captions: as many as the images have
    shape += (1 + manifest["cotangents"], manifest["store"]) if name == "store" else ()
    if array.shape != shape:
        raise ValueError(f"{path} has the shape {array.shape}; its manifest says {shape}")
    if name == "losses":
        check_finite(str(path), torch.from_numpy(array))
    return array


def losses_of(shared: Attributed, first: int, last: int) -> Tensor:
    """Task: losses [n, F, C, T] of a shard."""
    return shared.losses(first, last)


def examples(shared: Attributed, draws: int, first: int, last: int) -> dict:
    """Arguments of ``abu.core.fisher.per_example`` for a shard; flip and caption are drawn among those that there are."""

    def example(i: int, flip: int, caption: int) -> tuple[Tensor, Tensor]:
        row = first + i
        return shared.latents[row, flip % shared.latents.shape[1]], shared.texts[
            row, caption % shared.texts.shape[1]
        ]

    return {
        "unet": shared.model(),
        "scheduler": shared.scheduler,
        "weights": shared.weights,
        "example": example,
        "ids": shared.ids[first:last],
        "draws": draws,
        "seed": shared.seed,
        "batch_size": shared.batch_size,
    }


def curvature_of(shared: Attributed, draws: int, kind: str, first: int, last: int) -> Tensor:
    """Task: curvature summed over a shard's draws, flat float64 in the order of ``shapes_of``: squared gradients, and, for kind
    ``ekfac``, the Kronecker factors too."""
    parts = [partial(squares, weights=shared.weights)] + (
        [partial(factors, weights=shared.weights)] if kind == "ekfac" else []
    )
    return flat(
        summed(per_example(**examples(shared, draws, first, last)), *parts), shapes_of(shared, kind)
    )


def eigenvalues_of(shared: Attributed, draws: int, first: int, last: int) -> Tensor:
    """Task: corrected eigenvalues, summed over a shard's draws, flat float64; the basis is in ``shared.curvature``."""
    part = partial(
        rotated_squares, weights=shared.weights, basis=on_device(shared, shared.curvature)
    )
    return flat(
        summed(per_example(**examples(shared, draws, first, last)), part),
        shapes_of(shared, "values"),
    )


def shapes_of(shared: Attributed, kind: str = "diagonal") -> dict[str, tuple[int, ...]]:
    """Names and shapes of what is kept of the attributed weights: the ``diagonal``, or ``ekfac`` (the diagonal, then factors of
    inputs and outputs), or the eigen``values``."""
    shapes = {name: tuple(shared.unet.get_parameter(name).shape) for name in shared.weights}
    if kind == "values":
        return {f"{name}.values": shape for name, shape in shapes.items()}
    sides = {
        f"{n}.{part}": (s[at],) * 2
        for n, s in shapes.items()
        for part, at in (("inputs", 1), ("outputs", 0))
        if kind == "ekfac"
    }
    return shapes | sides


def flat(tensors: Tensors, names) -> Tensor:
    """Tensors in the order of ``names``, in one row on the CPU."""
    return torch.cat([tensors[name].flatten() for name in names]).cpu()


def unflatten(flat: Tensor, shapes: dict[str, tuple[int, ...]]) -> Tensors:
    """Tensors by name from one flat tensor in the order of ``shapes``."""
    sizes = [torch.Size(shape).numel() for shape in shapes.values()]
    return {
        name: part.reshape(shape)
        for (name, shape), part in zip(shapes.items(), flat.split(sizes), strict=True)
    }


def on_device(shared: Attributed, tensors: Tensors) -> Tensors:
    device = next(shared.model().parameters()).device
    return {name: value.to(device) for name, value in tensors.items()}


def move_of(
    shared: Attributed, q: int, draws: int, curvature: str, damping: float, options: dict
) -> Tensors:
    """Change of the weights that unlearns query number ``q``; ``options``: those of ``abu.core.unlearn.unlearn``."""
    z, texts, names = shared.queries

    def gradient(model: torch.nn.Module, step: int) -> Tensors:
        key = (shared.seed, "unlearn", names[q], step)
        region = shared.regions[q] if shared.regions else None
        arguments = (z[q], texts[q], key, shared.timesteps, draws, shared.batch_size, region)
        return query_gradient(model, shared.scheduler, shared.weights, *arguments)[1]

    inverse = partial(
        precondition, curvature, cached=on_device(shared, shared.curvature), damping=damping
    )
    return unlearn(shared.model(), gradient, inverse, **{"n": len(shared.ids), **options})


def gradient_of(shared: Attributed, q: int, draws: int) -> Tensor:
    """Task: gradient of query number ``q``'s loss, flat float32: that of the first step of ``unlearn_query``."""
    return flat(
        move_of(shared, q, draws, "identity", 0.0, {"alpha": len(shared.ids)}), shared.weights
    )


def unit_moves(shared: Attributed, gradients: Tensor, curvature: str, damping: float) -> Tensor:
    """One Newton step for each of the gradients [Q, P], as long as the attributed weights are: times a relative norm it is the
    move of that relative norm. Flat float32 [Q, P]."""
    size = norm({name: shared.unet.get_parameter(name).detach() for name in shared.weights})
    found = []
    for gradient in gradients:
        direction = precondition(
            curvature, unflatten(gradient, shapes_of(shared)), shared.curvature, damping
        )
        found.append(flat(direction, shared.weights) * (size / norm(direction)))
    return torch.stack(found)


def unlearn_query(
    shared: Attributed, q: int, draws: int, curvature: str, damping: float, options: dict
) -> Tensor:
    """Task: unlearn query number ``q``; relative length of the move, losses of all images [N*F*C*T] and queries [Q*T]."""
    delta = move_of(shared, q, draws, curvature, damping, options)
    size = norm({name: shared.unet.get_parameter(name).detach() for name in shared.weights})
    with moved(shared.model(), delta):
        tables = shared.losses(), shared.query_losses()
    return torch.cat([torch.tensor([norm(delta) / size]), *(table.flatten() for table in tables)])


def rescore(shared: Attributed, rows: list[int], delta: Tensor) -> Tensor:
    """Task: losses [n, F, C, T] of the images in ``rows`` alone after the move ``delta`` (flat): the second of two stages."""
    part = replace(
        shared,
        latents=shared.latents[rows],
        texts=shared.texts[rows],
        ids=[shared.ids[row] for row in rows],
    )
    with moved(shared.model(), on_device(shared, unflatten(delta, shapes_of(shared)))):
        return part.losses()


def influence_of(
    shared: Attributed, deltas: Tensor, cotangents: int, first: int, last: int
) -> Tensor:
    """Task: what moves ``deltas`` [Q, P] (flat) do to a shard's losses, float32 [Q, n, F, C, T, 1 + cotangents]: to first order,
    then the Gauss-Newton term of each cotangent (``abu.core.influence.gauss_newton``)."""
    linear, curved = gauss_newton(*moves(shared, deltas, first, last, cotangents))
    return torch.cat([linear[..., None], curved], -1)


def forward_of(shared: Attributed, delta: Tensor, first: int, last: int) -> Tensor:
    """Task: both terms of one move (flat) without estimation, float32 [n, F, C, T, 2] (``abu.core.influence.forward_mode``)."""
    model, scheduler, weights, deltas, *rest = moves(shared, delta[None], first, last)
    return torch.stack(
        forward_mode(model, scheduler, weights, {n: d[0] for n, d in deltas.items()}, *rest), -1
    )


def linear_of(shared: Attributed, deltas: Tensor, first: int, last: int) -> Tensor:
    """Task: the first order alone, float32 [Q, n, F, C] (``abu.core.influence.first_order``)."""
    return first_order(*moves(shared, deltas, first, last))


def moves(shared: Attributed, deltas: Tensor, first: int, last: int, *cotangents: int) -> tuple:
    """Positional arguments of ``gauss_newton`` and ``first_order`` for a shard."""
    part = slice(first, last)
    return (
        shared.model(),
        shared.scheduler,
        shared.weights,
        on_device(shared, by_weight(shared, deltas)),
        shared.latents[part],
        shared.texts[part, : shared.captions],
        shared.ids[part],
        shared.timesteps,
        *cotangents,
        shared.seed,
        shared.batch_size,
    )


def by_weight(shared: Attributed, deltas: Tensor) -> Tensors:
    """Flat moves [Q, P] by weight, [Q, *shape]."""
    shapes = shapes_of(shared)
    parts = deltas.split([torch.Size(shape).numel() for shape in shapes.values()], 1)
    return {
        name: part.reshape(-1, *shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def store_of(shared: Attributed, basis: Basis, cotangents: int, first: int, last: int) -> Tensor:
    """Task: a shard of the store, float16 [n, F, C, T, 1 + cotangents, p] (``abu.core.store.project``)."""
    part, basis = slice(first, last), replace(basis, vectors=on_device(shared, basis.vectors))
    return project(
        shared.model(),
        shared.scheduler,
        basis,
        shared.latents[part],
        shared.texts[part, : shared.captions],
        shared.ids[part],
        shared.timesteps,
        cotangents,
        shared.seed,
        shared.batch_size,
    )
