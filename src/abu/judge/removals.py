"""What is left out of leave-K-out retrainings."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from abu.data.manifest import fingerprint
from abu.diffusion.noise import permutation
from abu.judge.ranking import rank


@dataclass(frozen=True)
class Removal:
    """One retraining: without the images ``removed`` (ids), under ``seed``. The other fields say
    what it is for."""

    method: str  # whose top K; "none", "random"
    k: int  # images for each query; 0 of none
    draw: int  # of a random removal
    seed: int
    removed: tuple[int, ...]
    group: str = "every query"  # whose images go together

    @property
    def name(self) -> str:
        """Name of its task: equal sets of images and equal seeds are trained once."""
        return f"{fingerprint(sorted(self.removed))}-{self.seed}"


def top_of_all(scores: np.ndarray, ids: Sequence[int], k: int) -> tuple[int, ...]:
    """Ids of the ``k`` highest-scored images of each query, for all queries together; ``scores``:
    [Q, N].

    Raises ValueError unless 1 <= k < N.
    """
    if not 1 <= k < len(ids):
        raise ValueError(f"k is {k}; expected 1 or more, and fewer than the {len(ids)} images")
    return tuple(sorted({ids[i] for row in rank(scores)[:, :k] for i in row}))


def leave_k_out(
    scores: dict[str, np.ndarray],
    ids: Sequence[int],
    groups: dict[str, Sequence[int]],
    ks: Sequence[int],
    seeds: Sequence[int],
    draws: int,
    seed: int,
) -> list[Removal]:
    """Batched leave-K-out: for each seed, K and group of queries (rows of the scores), each
    method's top K of the whole group together, and as often as ``draws`` a random set as large
    as the first method's."""
    removals = []
    for s, k, (group, rows) in product(seeds, ks, groups.items()):
        tops = {method: top_of_all(values[list(rows)], ids, k) for method, values in scores.items()}
        removals += [Removal(method, k, 0, s, removed, group) for method, removed in tops.items()]
        size = len(next(iter(tops.values())))
        for draw in range(draws):
            order = permutation(len(ids), seed, "removal", group, k, draw)
            removed = tuple(sorted(ids[i] for i in order[:size]))
            removals.append(Removal("random", k, draw, s, removed, group))
    return removals
