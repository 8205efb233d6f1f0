"""The tasks of attribution: what is cached of shards of images, and what is asked of queries.

A task is a function of what all share and of its own arguments; it returns named tensors. Whatever
process runs it, its numbers are the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from abu.core.curvature import factors, precondition, rotated_squares, squares, summed
from abu.core.fisher import per_example, query_gradient, query_loss
from abu.core.influence import forward_mode, gauss_newton
from abu.core.store import Basis, project
from abu.core.unlearn import Newton, moved, norm, score, unlearn
from abu.data.checks import check_counts
from abu.data.images import Images
from abu.data.queries import NO_QUERIES, Queries
from abu.data.readers import Tensors
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid
from abu.diffusion.losses import check_timesteps, loss_table

RISE_DRAWS = 2  # noises for each timestep of the loss by which a rise is measured


@dataclass(frozen=True)
class Attribution:
    """A model, the images to which its pictures are attributed, the grid of their losses, and what
    is asked: ``curvature`` (``abu.core.curvature``) and ``queries`` where a task needs them.

    Raises ValueError for timesteps outside the scheduler's.
    """

    denoiser: Denoiser
    images: Images
    grid: Grid
    curvature: Tensors = field(default_factory=dict)
    queries: Queries = NO_QUERIES

    def __post_init__(self):
        check_timesteps(self.denoiser.scheduler, self.grid.timesteps)

    def shapes(self) -> dict[str, torch.Size]:
        """Shapes of the attributed weights by name."""
        get = self.denoiser.unet.get_parameter
        return {name: get(name).shape for name in self.denoiser.weights}

    def length(self) -> float:
        """``||theta_0||`` of the attributed weights."""
        get = self.denoiser.unet.get_parameter
        return norm({name: get(name).detach() for name in self.denoiser.weights})

    def placed(self, tensors: Tensors) -> Tensors:
        """Tensors on the model's device."""
        device = next(self.denoiser.model().parameters()).device
        return {name: value.to(device) for name, value in tensors.items()}

    def losses(self) -> Tensor:
        """Losses [N, F, C, T] of the images."""
        return loss_table(self.denoiser, self.images, self.grid)

    def query_losses(self) -> Tensor:
        """Losses [Q, T] of all queries, under noise named by the query."""
        return loss_table(self.denoiser, self.queries.images(), self.grid).flatten(1)


def shards(n: int, size: int) -> dict[str, tuple[int, int]]:
    """Ranges of ``n`` images by name; the names and ranges of full shards do not depend on n.
    Raises ValueError for shards of nothing."""
    check_counts(shard=size)
    ranges = ((first, min(first + size, n)) for first in range(0, n, size))
    return {f"{first}-{last}": (first, last) for first, last in ranges}


def losses_of(shared: Attribution, first: int, last: int) -> Tensors:
    """Task: ``losses`` [n, F, C, T] of a shard."""
    return {"losses": replace(shared, images=shared.images[first:last]).losses()}


def examples(shared: Attribution, first: int, last: int) -> Images:
    """A shard with the flips of the grid and every caption, as training draws them."""
    return replace(shared.grid, captions=None).of(shared.images[first:last])


def curvature_of(shared: Attribution, draws: int, kind: str, first: int, last: int) -> Tensors:
    """Task: curvature summed over a shard's draws, float64: squared gradients by weight, and, for
    kind ``ekfac``, the Kronecker factors too."""
    moments = [squares, factors] if kind == "ekfac" else [squares]
    walk = per_example(shared.denoiser, examples(shared, first, last), draws, shared.grid.seed)
    return summed(walk, *(partial(moment, weights=shared.denoiser.weights) for moment in moments))


def eigenvalues_of(shared: Attribution, draws: int, first: int, last: int) -> Tensors:
    """Task: corrected eigenvalues, summed over a shard's draws, float64; the basis is in
    ``shared.curvature``."""
    basis = shared.placed(shared.curvature)
    moment = partial(rotated_squares, weights=shared.denoiser.weights, basis=basis)
    walk = per_example(shared.denoiser, examples(shared, first, last), draws, shared.grid.seed)
    return summed(walk, moment)


def query_step(shared: Attribution, q: int, draws: int, model: nn.Module, step: int) -> Tensors:
    """Gradient of query number ``q``'s loss at a step of unlearning, where the model stands."""
    key = "unlearn", shared.queries.names[q], step
    return query_gradient(*query_asked(shared, q, draws, key))[1]


def query_asked(shared: Attribution, q: int, draws: int, key: tuple) -> tuple:
    """Arguments of ``abu.core.fisher.query_loss`` for query number ``q``, or its region, under
    noise of a name."""
    queries, grid = shared.queries, shared.grid
    region = queries.regions[q] if queries.regions else None
    args = queries.latents[q], queries.texts[q], (grid.seed, *key), grid.timesteps, draws, region
    return shared.denoiser, *args


def gradient_of(shared: Attribution, q: int, draws: int) -> Tensors:
    """Task: gradient of query number ``q``'s loss by weight, float32: that of the first step of
    ``unlearn_query``."""
    return query_step(shared, q, draws, shared.denoiser.model(), 0)


def move_of(shared: Attribution, q: int, newton: Newton) -> Tensors:
    """Change of the weights that unlearns query number ``q``."""
    gradient = partial(query_step, shared, q, newton.draws)
    cached, damping = shared.placed(shared.curvature), newton.damping
    inverse = partial(precondition, newton.curvature, cached=cached, damping=damping)
    args = query_asked(shared, q, RISE_DRAWS, ("rise", shared.queries.names[q]))
    loss = partial(query_loss, *args)
    return unlearn(shared.denoiser.model(), gradient, inverse, newton, loss)


def unlearn_query(shared: Attribution, q: int, newton: Newton) -> Tensors:
    """Task: unlearn query number ``q``: ``relative_norm`` [1] of the move, then ``losses`` [N, F,
    C, T] of the images and ``query_losses`` [Q, T] of all queries."""
    delta = move_of(shared, q, newton)
    relative_norm = torch.tensor([norm(delta) / shared.length()])
    with moved(shared.denoiser.model(), delta):
        losses, query_losses = shared.losses(), shared.query_losses()
    return {"relative_norm": relative_norm, "losses": losses, "query_losses": query_losses}


def unit_moves(shared: Attribution, gradients: Tensors, curvature: str, damping: float) -> Tensors:
    """One Newton step for each of the gradients [Q, *shape] by weight, as long as the attributed
    weights are: times a relative norm it is the move of that relative norm."""
    length, moves = shared.length(), []
    for q in range(len(next(iter(gradients.values())))):
        gradient = {name: value[q] for name, value in gradients.items()}
        direction = precondition(curvature, gradient, shared.curvature, damping)
        scale = length / norm(direction)
        moves.append({name: value * scale for name, value in direction.items()})
    return {name: torch.stack([move[name] for move in moves]) for name in gradients}


def move_along(moves: Tensors, q: int, length: float) -> Tensors:
    """The move of relative norm ``length`` along number ``q`` of ``unit_moves``."""
    return {name: length * unit[q] for name, unit in moves.items()}


def rescore(shared: Attribution, rows: Sequence[int], delta: Tensors) -> Tensors:
    """Task: ``losses`` [n, F, C, T] of the images in ``rows`` alone after a move: the second of two
    stages."""
    subset = replace(shared, images=shared.images[rows])
    with moved(shared.denoiser.model(), shared.placed(delta)):
        return {"losses": subset.losses()}


def scores_of(
    before: Tensor, rows: Iterable[Sequence[int]], after: Iterable[Mapping[str, Tensor]]
) -> np.ndarray:
    """Scores, float64 [moves, n], of the n images in ``rows`` of each move: from the losses of all
    ``before`` any move, [N, F, C, T], and what ``rescore`` gave of those ``after`` each."""
    scores = []
    for move_rows, result in zip(rows, after, strict=True):
        scores.append(score(before[torch.as_tensor(move_rows)], result["losses"]).numpy())
    return np.stack(scores)


def influence_of(
    shared: Attribution, deltas: Tensors, cotangents: int, first: int, last: int
) -> Tensors:
    """Task: what moves ``deltas`` do to a shard's losses (``abu.core.influence.gauss_newton``):
    ``linear`` [Q, n, F, C, T] and ``curved`` [..., cotangents]."""
    images, moves = shared.images[first:last], shared.placed(deltas)
    linear, curved = gauss_newton(shared.denoiser, moves, images, shared.grid, cotangents)
    return {"linear": linear, "curved": curved}


def forward_of(shared: Attribution, delta: Tensors, first: int, last: int) -> Tensors:
    """Task: both terms of one move without estimation, in the form of ``influence_of``: ``linear``
    [1, n, F, C, T] and ``curved`` [..., 1]."""
    images, move = shared.images[first:last], shared.placed(delta)
    linear, curved = forward_mode(shared.denoiser, move, images, shared.grid)
    return {"linear": linear[None], "curved": curved[None, ..., None]}


def store_of(shared: Attribution, basis: Basis, cotangents: int, first: int, last: int) -> Tensors:
    """Task: a shard of the ``store``, float16 [n, F, C, T, 1 + cotangents, p]."""
    placed = replace(basis, vectors=shared.placed(basis.vectors))
    images = shared.images[first:last]
    return {"store": project(shared.denoiser, placed, images, shared.grid, cotangents)}
