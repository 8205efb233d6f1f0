"""Every method's linear datamodelling scores by a bank: by kind of query, against the ceiling, and
compared as was named beforehand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from abu.judge.bank import Bank
from abu.judge.lds import ALL, compare, means_by_kind, resampled, table_of
from abu.judge.sharpen import sharpen
from abu.judge.verdict import Verdict, seeds_agree, two_seeds, verdict_of

COLUMNS = {  # of the tables of a leaderboard, by the name of the file that keeps each
    "lds": ["method", "kind", "queries", "lds", "low", "high", "raw"],
    "comparisons": ["kind", "method", "other", "difference", "low", "high", "p", "p_holm", "apart"],
}


@dataclass(frozen=True)
class Named:
    """Comparisons, by kind of query or of all, of a method with others; and the number of the first
    pair that nobody had looked at when they were settled: they are made by those from it on."""

    comparisons: Mapping[str, Mapping[str, Sequence[str]]]
    unseen_from: int = 0


@dataclass(frozen=True)
class Leaderboard:
    """``table``: that of ``abu.judge.lds.table_of`` and ``raw``, of the scores as they are;
    ``compared``: that of ``abu.judge.lds.compare``, by the pairs of ``unseen``; ``ceiling``: by
    kind, about what perfect scores would reach, empty where the bank has too few pairs of a second
    seed; ``metrics``: the numbers of queries, pairs and methods that the study records."""

    verdict: Verdict
    unseen: Verdict
    table: pd.DataFrame
    compared: pd.DataFrame
    ceiling: dict[str, float]
    metrics: dict

    def over_all(self) -> pd.DataFrame:
        """Rows of ``table`` of the queries of all kinds, by method, best first."""
        rows = self.table[self.table.kind == ALL].set_index("method")
        return rows.sort_values("lds", ascending=False)

    def has_power(self, chance: str = "random") -> bool | None:
        """Whether the best method is told from the scores of ``chance``: their interval holds 0 and
        ends below where the best one's begins. None where they were not judged."""
        board = self.over_all()
        if chance not in board.index:
            return None
        row = board.loc[chance]
        return bool(row.low <= 0 <= row.high < board.iloc[0].low)

    def shown(self) -> pd.DataFrame:
        """Methods, best first, by kind; ``raw``, and the share of the ceiling where it is
        known."""
        wide = self.table.pivot(index="method", columns="kind", values="lds")
        wide = wide[self.table.kind.unique()].assign(raw=self.over_all().raw)
        if self.ceiling.get(ALL):
            wide["share of ceiling"] = wide[ALL] / self.ceiling[ALL]
        return wide.sort_values(ALL, ascending=False)


def leaderboard_of(
    bank: Bank,
    queries: pd.DataFrame,
    latents: np.ndarray,
    scores: Mapping[str, np.ndarray],
    sharpness: Mapping[str, float | None],
    named: Named,
    seed: int = 0,
) -> Leaderboard | None:
    """Judge scores [Q, N] of methods by the pairs that report; None where the bank does not know
    enough of the queries.

    ``queries``: name and kind of each; ``latents``: their pictures' [Q, c, h, w]; ``sharpness``: of
    each method that has one. Nothing is compared where fewer than three pairs are unseen.
    """
    verdict = verdict_of(bank, queries.name, latents, tuning=False)
    if not verdict:
        return None
    judged = queries[verdict.known].reset_index(drop=True)
    of = lambda name, values: sharpen(values[verdict.known], sharpness.get(name))
    values = {name: of(name, values) for name, values in scores.items()}
    given = verdict.halves, verdict.differences, judged.kind
    table = table_of(values, *given, seed)
    by_kind = (means_by_kind(verdict.lds(raw), judged.kind) for raw in scores.values())
    table["raw"] = [mean for means in by_kind for mean in means.values()]
    r, both = seeds_agree(bank, queries.name, latents)
    means = means_by_kind(r, judged.kind) if len(r) else {}
    root = lambda r: float(max(r, 0) ** 0.5)
    over_all = table[table.kind == ALL].set_index("method").rename(columns={"lds": "mean"})
    lds = over_all[["mean", "low", "high", "raw"]].to_dict("index")
    metrics = {"queries": len(judged), "pairs": len(verdict.pairs), "lds": lds}
    ceiling = {kind: root(mean) for kind, mean in means.items()}
    if means:
        first, second = two_seeds(bank, queries.name, latents)
        drawn = resampled([first.T], second.T, [np.arange(len(judged))], seed)
        ends = dict(zip(("ceiling_low", "ceiling_high"), np.percentile(drawn, [2.5, 97.5])))
        agree = {"seed_correlation": float(r.mean()), "seed_pairs": both, "ceiling": ceiling}
        metrics |= agree | {name: root(end) for name, end in ends.items()}
    unseen = verdict.since(named.unseen_from)
    metrics["pairs_compared"] = len(unseen.pairs)
    given = unseen.halves, unseen.differences, judged.kind
    compared = compare(values, *given, named.comparisons if unseen else {}, seed)
    return Leaderboard(verdict, unseen, table, compared, ceiling, metrics)


def files_of(board: Leaderboard | None) -> dict[str, pd.DataFrame]:
    """The tables of a leaderboard to four decimals, by the name of the file that keeps each;
    without rows where nothing was judged."""
    if board is None:
        return {name: pd.DataFrame(columns=columns) for name, columns in COLUMNS.items()}
    return {"lds": board.table.round(4), "comparisons": board.compared.round(4)}
