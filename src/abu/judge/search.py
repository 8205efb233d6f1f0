"""A search of hyper-parameters by a judge: every method's scores as they are and sharpened."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from abu.judge.ranking import average_precision
from abu.judge.sharpen import sharpen
from abu.judge.verdict import Verdict

OPTIONS = ("rise", "relative_norm", "damping", "ridge")
"""What methods choose, beside their sharpness."""


def mean_precision(right: np.ndarray, scores: np.ndarray) -> float:
    """Mean average precision of scores [Q, N] over the queries that have right images, bool [Q, N];
    NaN without any."""
    known = right.any(1)
    rows = zip(scores[known], right[known])
    return float(np.mean([average_precision(*row) for row in rows])) if known.any() else np.nan


@dataclass(frozen=True)
class Search:
    """Settings that were ``tried``, each with what the judge says of it: linear datamodelling
    scores of a ``verdict``, or, without one, mean average precision of the ``right`` images, bool
    [Q, N]. Without either nothing is known (``blind``), and only what is first in a list is tried.
    ``sharpness``: those tried beside scores as they are.
    """

    verdict: Verdict | None
    right: np.ndarray
    sharpness: Sequence[float]
    tried: list[dict] = field(default_factory=list)

    @property
    def blind(self) -> bool:
        return not self.verdict and not self.right.any()

    def of(self, values: Sequence) -> list:
        """The values of an option to be tried."""
        return list(values)[: 1 if self.blind else None]

    @property
    def judge(self) -> tuple[str, Callable[[np.ndarray], float]]:
        """What the judge says of scores [Q, N], and its name."""
        verdict, precision = self.verdict, partial(mean_precision, self.right)
        if not verdict:
            return "mean average precision", precision
        name = f"linear datamodelling score over {len(verdict.pairs)} pairs"
        return name, lambda scores: float(verdict.lds(scores).mean())

    def add(self, method: str, scores: np.ndarray, **options) -> None:
        """Judge a method's scores [Q, N] under options, as they are and sharpened."""
        for beta in [None] if self.blind else [None, *self.sharpness]:
            values = sharpen(scores, beta)
            row = {"method": method, **options, "sharpness": beta, "judged": self.judge[1](values)}
            self.tried.append(row | {"precision": mean_precision(self.right, values)})

    def best(self, method: str) -> dict:
        """The method's row that the judge likes best; the first of equals, and where nothing is
        judged. Raises KeyError for a method that was not tried."""
        rows = [row for row in self.tried if row["method"] == method]
        if not rows:
            known = sorted({row["method"] for row in self.tried})
            raise KeyError(f"{method!r} was not tried; expected one of {known}")
        return max(rows, key=lambda row: -np.inf if np.isnan(row["judged"]) else row["judged"])

    def table(self) -> pd.DataFrame:
        """All that was tried: method, options, sharpness, judged, precision."""
        return pd.DataFrame(self.tried)

    def chosen(self, products: Mapping[str, Sequence[str]]) -> dict[str, dict]:
        """Best options by method; a product's ``parts`` too. A step that is given by its rise has
        no length of its own."""
        out = {}
        for method in dict.fromkeys(row["method"] for row in self.tried):
            best = self.best(method)
            told = [name for name in OPTIONS if name in best]
            told = [name for name in told if not (name == "relative_norm" and "rise" in best)]
            out[method] = {name: best[name] for name in (*told, "sharpness")}
            if method in products:
                out[method]["parts"] = list(products[method])
        return out

    def worth(self) -> pd.DataFrame:
        """By method, best first: the judge's word on scores ``as it is`` and ``sharpened``, and the
        number of ``settings``."""
        table, by = self.table(), "method"
        plain = table[table.sharpness.isna()].groupby(by, sort=False).judged.max()
        every = table.groupby(by, sort=False)
        columns = {"as it is": plain, "sharpened": every.judged.max(), "settings": every.size()}
        return pd.DataFrame(columns).sort_values("sharpened", ascending=False)

    def panels(self) -> dict[str, pd.DataFrame]:
        """By method with options, what the judge says by an option and the sharpness."""
        panels = {}
        for method, settings in self.table().groupby("method", sort=False):
            rows = [name for name in OPTIONS if name in settings and settings[name].nunique() > 1]
            if rows and settings.sharpness.nunique(dropna=False) > 1:
                filled = settings.fillna({"sharpness": 0})
                panels[method] = filled.pivot_table("judged", rows[-1], "sharpness", "max")
        return panels
