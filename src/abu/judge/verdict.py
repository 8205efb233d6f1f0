"""What a bank can say of a study's queries: those that it was asked about, pairs that choose and
pairs that report, and the ceiling."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from abu.judge.bank import Bank
from abu.judge.lds import correlations, lds


@dataclass(frozen=True)
class Verdict:
    """P pairs of halves, and what became of K of a study's Q queries.

    ``known``: bool [Q], which were asked about; ``rows``: [K], their numbers in the bank;
    ``halves``: bool [P, N], images of the first half; ``differences``: [P, K], the queries' losses
    under it less those under its complement; ``seed``, under which they were trained, and
    ``pairs``, their numbers.
    """

    known: np.ndarray
    rows: np.ndarray
    halves: np.ndarray
    differences: np.ndarray
    pairs: list[int]
    seed: int | None

    def __bool__(self) -> bool:
        """Whether there is enough for a rank correlation."""
        return len(self.pairs) >= 3 and bool(self.known.any())

    def lds(self, scores: np.ndarray) -> np.ndarray:
        """Linear datamodelling scores [K] of scores [Q, N]."""
        return lds(scores[self.known], self.halves, self.differences)

    def since(self, pair: int) -> "Verdict":
        """By its pairs from a number on alone."""
        later = np.array(self.pairs, int) >= pair
        pairs = [number for number in self.pairs if number >= pair]
        halves, differences = self.halves[later], self.differences[later]
        return replace(self, halves=halves, differences=differences, pairs=pairs)


def verdict_of(
    bank: Bank, names: Sequence[str], latents: np.ndarray, tuning: bool | None, nth: int = 0
) -> Verdict:
    """What the bank says of queries, by name and picture [Q, c, h, w], by pairs of its seed number
    ``nth`` that choose hyper-parameters (``tuning``), that report, or (None) both."""
    rows, seeds = bank.judged(names, latents), bank.pair_seeds
    known = rows >= 0
    seed = seeds[nth] if nth < len(seeds) else None
    halves, differences, pairs = bank.pairs(seed, tuning)
    return Verdict(known, rows[known], halves, differences[:, rows[known]], pairs, seed)


def two_seeds(bank: Bank, names: Sequence[str], latents: np.ndarray) -> list[np.ndarray]:
    """Differences [P, K] of two seeds of the bank over the pairs that both have, of the queries
    that it was asked about."""
    verdicts = [verdict_of(bank, names, latents, None, nth) for nth in (0, 1)]
    both = [pair for pair in verdicts[1].pairs if pair in verdicts[0].pairs]
    return [v.differences[[v.pairs.index(pair) for pair in both]] for v in verdicts]


def seeds_agree(bank: Bank, names: Sequence[str], latents: np.ndarray) -> tuple[np.ndarray, int]:
    """Spearman correlation [K] of the differences of ``two_seeds``, and the number of their pairs;
    none where they are fewer than three. Its mean's square root is about what perfect scores would
    reach."""
    first, second = two_seeds(bank, names, latents)
    r = correlations(first.T, second.T) if len(first) > 2 else np.empty(0)
    return r, len(first)
