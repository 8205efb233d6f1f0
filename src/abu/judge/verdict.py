"""What a bank can say of a study's queries: those that it was asked about, pairs that choose and
pairs that report, and the ceiling."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from abu.judge.bank import Bank
from abu.judge.lds import lds, seed_correlation


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


def verdict_of(
    bank: Bank, names: Sequence[str], latents: np.ndarray, tuning: bool | None, nth: int = 0
) -> Verdict:
    """What the bank says of queries, by name and picture [Q, c, h, w], by pairs of its seed number
    ``nth`` that choose hyper-parameters (``tuning``), that report, or (None) both."""
    rows, seeds = bank.judged(names, latents), bank.pair_seeds
    known = rows >= 0
    seed = seeds[nth] if nth < len(seeds) else None
    halves, differences, pairs = bank.pairs(seed, tuning)
    asked = rows[known]
    return Verdict(known, asked, halves, differences[:, asked], pairs, seed)


def seeds_agree(bank: Bank, names: Sequence[str], latents: np.ndarray) -> tuple[np.ndarray, int]:
    """Correlation [K] of the differences of two seeds of the bank over the pairs that both have
    (``abu.judge.lds.seed_correlation``), of each query that it was asked about, and the number of
    those pairs; none where they are fewer than three."""
    first, second = (verdict_of(bank, names, latents, None, nth) for nth in (0, 1))
    both = [pair for pair in second.pairs if pair in first.pairs]
    if len(both) < 3:
        return np.empty(0), len(both)
    of = lambda verdict: verdict.differences[[verdict.pairs.index(pair) for pair in both]]
    return seed_correlation(of(first), of(second)), len(both)
