"""The paper's claims, each held, not held or not told apart by what this study measured."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from abu.judge.intervals import clustered

HELD, NOT, OPEN, UNASKED = "held", "not held", "not told apart", "not asked"
KERNELS = ("trak", "d-trak", "das")
OURS = "coupling-ridge"
SIMILARITY = ("latent", "pixel", "clip-image", "clip-text")
RIDGE = ("latent-ridge",)  # a similarity that the paper does not know
FORGOTTEN = 0.1  # of the query's own rise: from where on another query counts as forgotten too


class Claim(NamedTuple):
    """What is claimed, whether it held, and what says so."""

    claim: str
    verdict: str
    evidence: str


def weighed(apart: pd.Series, gains: pd.Series) -> str:
    """Verdict on a claim that says each gain is above 0: held if each is told apart from 0 and
    above it, not held if one is told apart and below."""
    sure = apart.astype(bool)
    behind, every = (sure & (gains < 0)).any(), (sure & (gains > 0)).all()
    return NOT if behind else HELD if every else OPEN


def told(row, other: str, low: float, high: float) -> str:
    """A comparison in words: how far ahead of another."""
    return f"{row.difference:+.2f} to {other} ({low:+.2f} to {high:+.2f}, p = {row.p_holm:.2g})"


def ahead(claim: str, method: str, others: Sequence[str], compared: pd.DataFrame) -> Claim:
    """That a method's linear datamodelling scores are above those of all ``others``; ``compared``:
    that of ``abu.judge.lds.compare``."""
    over_all = compared[(compared.kind == "all") & (compared.method == method)]
    rows = over_all[over_all.other.isin(others)]
    if not len(rows):
        return Claim(claim, UNASKED, "no such comparison in evaluate.comparisons")
    each = [told(row, row.other, row.low, row.high) for row in rows.itertuples()]
    return Claim(claim, weighed(rows.apart, rows.difference), "; ".join(each))


def harms_more(claim: str, method: str, against: str, removed: pd.DataFrame) -> Claim:
    """That models trained without what a method names harm a query more than models without what
    ``against`` names, in each Latin square; ``removed``: of ``abu.judge.latin.summaries``, whose
    comparisons are with ``against``."""
    of_loss = (removed.measure == "loss") & (removed.kind == "all")
    rows = removed[of_loss & (removed.method == method)]
    if not len(rows):
        return Claim(claim, UNASKED, "no whole Latin square of what its scores name is recorded")
    said = lambda row: (
        f"K = {row.k}{' besides right images' * row.besides}: the loss rises {row.times:.2f} times "
        f"as far as without {against}'s (p = {row.p_holm:.2g})"
    )
    verdict = weighed(rows.p_holm < 0.05, rows.over)
    return Claim(claim, verdict, "; ".join(said(row) for row in rows.itertuples()))


def others_keep(own: np.ndarray, others: np.ndarray, seed: int = 0) -> Claim:
    """That unlearning a query leaves other queries alone: their mean rise as a share of its own,
    of Q queries each, with its 95 % interval over queries; held where that lies below
    ``FORGOTTEN``."""
    claim = "unlearning one picture leaves others alone"
    if len(own) < 2 or not np.isfinite(others).all():
        return Claim(claim, UNASKED, "one query has no others")
    both = clustered(np.stack([others, own], 1), np.arange(len(own)), seed)
    low, high = np.percentile(both[:, 0] / both[:, 1], [2.5, 97.5])
    verdict = HELD if high < FORGOTTEN else NOT if low > FORGOTTEN else OPEN
    share = f"other queries' losses rise by {others.mean() / own.mean():.0%} of its own"
    return Claim(claim, verdict, f"{share} ({low:.0%} to {high:.0%}; our bar: {FORGOTTEN:.0%})")


def parts_are_told(local: dict) -> Claim:
    """That a part of a picture can be asked about; ``local``: metrics of the stage ``localize``.
    Of few composites even the clearest signed ranks are not told apart: nothing is asked then."""
    claim = "a part of a picture can be asked about"
    if (least := 2 * 0.5 ** local["composites"]) >= 0.05:
        few = f"{local['composites']} composites in localize.pairs; expected 6 or more"
        return Claim(claim, UNASKED, f"{few} (least p: {min(least, 1):.2g})")
    error, precisions = local["choice_se"], [local[f"average_precision{k}"] for k in ("", "_whole")]
    verdict = OPEN if not local["p"] < 0.05 else HELD if precisions[0] > precisions[1] else NOT
    spread = f" (standard error {error:.0%})" if error else ""
    choice = f"the boxed part's images stand above the other's in {local['choice']:.0%}{spread}"
    both = f"average precision {precisions[0]:.2f} with the box, {precisions[1]:.2f} without"
    by = f"p = {local['p']:.2g}, signed ranks of {local['composites']} composites"
    return Claim(claim, verdict, f"{choice}; {both} ({by})")


ABLATED = {  # claim -> factor, choices, sign of their difference to the study where it holds
    "Fisher information matters": ("curvature", ["identity"], -1),
    "keys and values suffice": ("weights", ["cross-attn", "attn", "all"], -1),
    "one step suffices": ("steps", ["3", "10"], -1),
    "EK-FAC is better than the diagonal": ("curvature", ["ekfac"], 1),
}


def ablated(found: pd.DataFrame) -> pd.DataFrame:
    """The claims that ablations judge, each by the choices that have run; ``found``:
    ``abu.study.ablated.table``."""
    rows = []
    for claim, (factor, choices, sign) in ABLATED.items():
        of_factor = found[found.index.get_level_values("factor") == factor].droplevel("factor")
        ran = of_factor[of_factor.index.isin(choices)].dropna(subset="difference")
        if not len(ran):
            rows.append(Claim(claim, UNASKED, "no choice has run"))
            continue
        beside = lambda row: f"{row.Index} {told(row, 'the study', row.least, row.most)}"
        verdict = weighed(ran.apart, sign * ran.difference)
        evidence = "; ".join(map(beside, ran.itertuples()))
        rows.append(Claim(claim, verdict, f"{factor}: {evidence}"))
    return pd.DataFrame(rows)


def claims(
    compared: pd.DataFrame, rises: pd.DataFrame, local: dict, removed: pd.DataFrame, seed: int = 0
) -> pd.DataFrame:
    """Every claim that the study can judge, by row: ``claim``, ``verdict``, ``evidence``.

    ``rises``: of each query, ``rise`` of its own loss and ``others_rise``, as ``unlearn`` leaves
    them; ``removed``: what Latin squares say, against D-TRAK.
    """
    without = lambda name: f"models without what {name} names lose more than without D-TRAK's"
    rows = [
        ahead("unlearning beats kernels of gradients", "abu", KERNELS, compared),
        ahead("unlearning beats similarity", "abu", SIMILARITY, compared),
        harms_more(without("unlearning"), "abu", "d-trak", removed),
        others_keep(rises.rise.to_numpy(float), rises.others_rise.to_numpy(float), seed),
        parts_are_told(local),
        ahead("ours: coupling-ridge beats kernels of gradients", OURS, KERNELS, compared),
        ahead("ours: coupling-ridge beats similarity", OURS, SIMILARITY, compared),
        ahead("ours: coupling-ridge beats latents by ridge", OURS, RIDGE, compared),
        ahead("ours: unlearning beats latents by ridge", "abu", RIDGE, compared),
        harms_more(f"ours: {without('ridge-product')}", "ridge-product", "d-trak", removed),
    ]
    return pd.DataFrame(rows)
