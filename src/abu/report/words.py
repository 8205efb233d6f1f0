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


def differs(row) -> str:
    """The other of a comparison, and how far it is above the method."""
    return f"{row.other} ({-row.difference:+.2f})"


def told(compared: pd.DataFrame, name: Callable = differs) -> tuple[str, str, str]:
    """Which of those that a method was compared with (rows of ``abu.judge.lds.compare``) it is
    ahead of, behind, and not told apart from."""
    apart, ahead = compared.apart.astype(bool), compared.difference > 0
    parts = (compared[apart & ahead], compared[apart & ~ahead], compared[~apart])
    return tuple(", ".join(map(name, part.itertuples())) or "none" for part in parts)


def standings(linear: pd.DataFrame, compared: pd.DataFrame) -> pd.DataFrame:
    """Of each method and kind of query that was compared: its score, its rank, and ``told``."""
    rows = []
    for (kind, method), part in compared.groupby(["kind", "method"], sort=False):
        of_kind = linear[linear.kind == kind].set_index("method")
        rank = int(of_kind.lds.rank(ascending=False, method="first")[method])
        ahead, behind, open_ = told(part)
        row = {"method": method, "queries": kind, "LDS": scored(of_kind.loc[method])}
        row |= {"rank": f"{rank} of {len(of_kind)}", "worse, told apart": ahead}
        rows.append(row | {"not told apart": open_, "better, told apart": behind})
    return pd.DataFrame(rows)
