"""Leave-K-out retraining: what is removed, the models trained without it, and what they make of the queries."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from abu.cache import Prepared, fingerprint
from abu.losses import loss_table
from abu.metrics import rank
from abu.models import find_device
from abu.noise import permutation
from abu.sample import sample
from abu.train import train


@dataclass(frozen=True)
class Removal:
    """One retraining: without the images ``removed`` (ids), under ``seed``. The other fields say what it is for."""

    method: str  # whose top K; "none", "right", "random", "half"
    k: int  # images for each query; 0 where that is not what was asked
    draw: int  # of a random removal or half
    seed: int
    removed: tuple[int, ...]
    group: str = "every query"  # whose images go together

    @property
    def name(self) -> str:
        """Name of its task: equal sets of images and equal seeds are trained once."""
        return f"{fingerprint(sorted(self.removed))}-{self.seed}"


def top_of_all(scores: np.ndarray, ids: Sequence[int], k: int) -> tuple[int, ...]:
    """Ids of the ``k`` highest-scored images of each query, for all queries together; ``scores``: [Q, N].

    Raises ValueError unless 1 <= k < N.
    """
    if not 1 <= k < len(ids):
        raise ValueError(f"k is {k}; expected 1 or more, and fewer than the {len(ids)} images")
    return tuple(sorted({ids[i] for row in rank(scores)[:, :k] for i in row}))


def random_removal(ids: Sequence[int], count: int, *key: int | str) -> tuple[int, ...]:
    """``count`` ids of a named draw."""
    return tuple(sorted(ids[i] for i in permutation(len(ids), *key)[:count]))


def leave_k_out(
    scores: dict[str, np.ndarray], ids: Sequence[int], groups: dict[str, Sequence[int]], ks: Sequence[int],
    seeds: Sequence[int], draws: int, seed: int,
) -> list[Removal]:
    """Batched leave-K-out: for each seed, K and group of queries (rows of the scores), each method's top K of the whole
    group together, and as often as ``draws`` a random set as large as the first method's."""
    found = []
    for s, k, (group, rows) in product(seeds, ks, groups.items()):
        tops = {method: top_of_all(values[list(rows)], ids, k) for method, values in scores.items()}
        size = len(next(iter(tops.values())))
        chosen = [random_removal(ids, size, seed, "removal", group, k, draw) for draw in range(draws)]
        found += [Removal(method, k, 0, s, removed, group) for method, removed in tops.items()]
        found += [Removal("random", k, draw, s, removed, group) for draw, removed in enumerate(chosen)]
    return found


def each_alone(scores: np.ndarray, ids: Sequence[int], numbers: Sequence[int], count: int, method: str, k: int, seed: int) -> list[Removal]:
    """What batching costs: the top K of ``count`` queries, spread over all, each removed for that query alone.

    ``numbers``: of the queries, [Q]; a removal's group names its query.
    """
    rows = np.linspace(0, len(numbers) - 1, count).round().astype(int) if count else []
    return [Removal(method, k, 0, seed, top_of_all(scores[[q]], ids, k), f"query {numbers[q]}") for q in rows]


def right_sets(ids: Sequence[int], right: np.ndarray, draws: int, seed: int) -> list[Removal]:
    """Can the judge see at all? Removes the images ``right`` (bool [N]), and ``draws`` random sets as large."""
    removed = tuple(id for id, out in zip(ids, right, strict=True) if out)
    chosen = [random_removal(ids, len(removed), seed, "signal", draw) for draw in range(draws)]
    return [Removal("right", 0, 0, seed, removed)] + [Removal("random", 0, d, seed, r) for d, r in enumerate(chosen)]


def random_halves(ids: Sequence[int], count: int, seeds: Sequence[int], seed: int) -> list[Removal]:
    """``count`` random halves, for the linear datamodelling score: each is what a model is trained *without*."""
    chosen = [random_removal(ids, len(ids) // 2, seed, "half", m) for m in range(count)]
    return [Removal("half", 0, m, s, removed) for s in seeds for m, removed in enumerate(chosen)]


@dataclass(frozen=True)
class Recipe:
    """What every retraining shares; ``config`` and ``options`` are those of ``abu.train.train``."""

    data: Prepared
    scheduler: object
    config: dict
    options: dict
    train_ids: list[int]
    device: str

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
        raise KeyError(f"images {sorted(unknown)[:5]} cannot be removed: the model did not train on them")
    keep = [id for id in recipe.train_ids if id not in gone]
    unet, *_ = train(
        recipe.data, recipe.scheduler, recipe.config, keep, **{**recipe.options, "seed": seed}, device=str(find_device(recipe.device)), progress=""
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
    batch_size: int


def ask(shared: tuple[Recipe, Questions], weights: torch.Tensor) -> torch.Tensor:
    """Answers [Q, 1 + c*h*w] of one model: each query's loss, and what the model draws from its noise and prompt."""
    recipe, questions = shared
    unet = recipe.unet(weights)
    z, texts = questions.latents, questions.texts
    losses = loss_table(
        unet, recipe.scheduler, z[:, None], texts[:, None], [f"query {name}" for name in questions.names],
        questions.timesteps, questions.seed, questions.batch_size,
    ).flatten(1).mean(1)
    names = [(questions.seed, "query", name) for name in questions.names]
    drawn = sample(unet, recipe.scheduler, texts, recipe.data.empty, names, tuple(z.shape[1:]), **questions.sampler)
    return torch.cat([losses[:, None], drawn.flatten(1)], 1)
