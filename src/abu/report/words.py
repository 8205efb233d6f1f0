"""Verdicts in words, each beside what it would have been."""

from collections.abc import Callable

import pandas as pd
from IPython.display import Markdown


def either(holds: bool, yes: str, no: str, found: str = "") -> Markdown:
    """A verdict that the data chose, what was ``found``, and the sentence that would stand here had
    they chosen otherwise."""
    said, unsaid = (yes, no) if holds else (no, yes)
    return Markdown(f"**{said}** {found} *(Had it gone the other way: {unsaid})*")


def scored(row) -> str:
    """A linear datamodelling score with its 95 % interval."""
    return f"{row.lds:.2f} ({row.low:.2f} to {row.high:.2f})"


def foretold(linear: pd.DataFrame, judged: dict) -> str:
    """Which method's mean is the highest, over all queries and by kind: ``linear`` has
    kind, method, lds, low, high; ``judged`` the numbers of queries and pairs, and, where they are
    known, the correlation of two seeds and the ends of the ceiling's interval."""
    best = {kind: rows.loc[rows.lds.idxmax()] for kind, rows in linear.groupby("kind", sort=False)}
    says = {kind: f"{row.method} {scored(row)}" for kind, row in best.items()}
    over = f"Over {judged['queries']} queries and {judged['pairs']} pairs of halves"
    r = judged.get("seed_correlation")
    ceiling = "" if r is None else f"; the ceiling is {max(r, 0) ** 0.5:.2f}"
    if "ceiling_low" in judged:
        ceiling += " ({ceiling_low:.2f} to {ceiling_high:.2f})".format(**judged)
    kinds = "; ".join(f"{kind}: {said}" for kind, said in says.items() if kind != "all")
    by = f"Comparisons are by {judged['pairs_compared']} of these pairs (evaluate.unseen_from)."
    return f"{over} the highest mean is {says['all']}{ceiling}.\nBy kind: {kinds}.\n{by}"


def differs(row) -> str:
    """The other of a comparison, and how far it is above the method."""
    return f"{row.other} ({-row.difference:+.2f})"


def told(compared: pd.DataFrame, name: Callable = differs) -> tuple[str, str, str]:
    """Which of those that a method was compared with (rows of ``abu.judge.lds.compare``) it is
    ahead of, behind, and not told apart from."""
    apart, ahead = compared.apart.astype(bool), compared.difference > 0
    parts = (compared[apart & ahead], compared[apart & ~ahead], compared[~apart])
    return tuple(", ".join(map(name, rows.itertuples())) or "none" for rows in parts)


def standings(linear: pd.DataFrame, compared: pd.DataFrame) -> pd.DataFrame:
    """Of each method and kind of query that was compared: its score, its rank, and ``told``."""
    rows = []
    for (kind, method), others in compared.groupby(["kind", "method"], sort=False):
        of_kind = linear[linear.kind == kind].set_index("method")
        rank = int(of_kind.lds.rank(ascending=False, method="first")[method])
        ahead, behind, open_ = told(others)
        row = {"method": method, "queries": kind, "LDS": scored(of_kind.loc[method])}
        row |= {"rank": f"{rank} of {len(of_kind)}", "worse, told apart": ahead}
        rows.append(row | {"not told apart": open_, "better, told apart": behind})
    return pd.DataFrame(rows)


def beside_abu(table: pd.DataFrame) -> str:
    """What a table of ``abu.judge.recovery.summarize`` says of AbU, in three lines; of one model
    nothing is said."""
    rest = table.drop(index=["abu", "chance"])
    if rest.p.isna().all():
        return "Of one model: it says nothing of others."
    compared = rest.assign(difference=table.mAP["abu"] - rest.mAP, apart=rest.p < 0.05)
    shown = lambda row: f"{row.Index} ({row.mAP:.3f}, p = {row.p:.2g})"
    worse, better, open_ = told(compared, shown)
    return f"Better than AbU (p < 0.05): {better}.\n  Worse: {worse}.\n  Not told apart: {open_}."


FEW = 5
"""Models of which a test over models tells next to nothing, whatever they say."""


def found_by_abu(table: pd.DataFrame) -> Markdown:
    """Whether AbU finds exemplars better than random scores do, told apart over models, or, where
    no scores are random, than chance, by its interval; of ``FEW`` models or fewer that nothing is
    told. ``table``: of ``abu.judge.recovery.summarize``."""
    abu, chance = table.loc["abu"], table.loc["chance"]
    sure, beside, models = abu.low > chance.mAP, "", int(abu.models)
    if "random" in table.index:
        random = table.loc["random"]
        sure = random.p < 0.05 and abu.mAP > random.mAP
        beside = f"; random scores {random.mAP:.2f}, {models} models, p = {random.p:.2g}"
    if models <= FEW:
        said = f"mAP {abu.mAP:.2f}, chance {chance.mAP:.2f}{beside}."
        return Markdown(f"**{models} models are too few to tell.** {said}")
    return either(
        sure,
        "AbU finds exemplars better than chance.",
        "AbU is not told apart from chance at finding exemplars.",
        f"mAP {abu.mAP:.2f} ({abu.low:.2f} to {abu.high:.2f}), chance {chance.mAP:.2f}{beside}.",
    )
