"""Judge a file of scores by the bank: ``python -m abu.judge scores.parquet [--bank data/bank]``.

The file, parquet or csv, has the columns query (its name, or its number in ``queries.csv``: of the
bank, or, for a file below ``results/``, of ``results/generate/base``), image_id and score, and may
have method: every image that the model in question was trained on, for every query that is
reported.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from abu import ROOT
from abu.data.queries import read_queries
from abu.judge.bank import Bank, read_bank
from abu.judge.lds import table_of
from abu.judge.sharpen import sharpen
from abu.judge.verdict import seeds_agree, verdict_of

RESULTS = ROOT / "results"
OURS, JUDGED_BY = RESULTS / "evaluate/lds.csv", RESULTS / "evaluate/metrics.json"
TEXT = {"na_values": {"score": ["", "NA", "nan"]}, "keep_default_na": False}  # a name may be "NA"


def read_judged(
    path: Path, bank: Bank, method: str | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Queries that are reported, and their scores [Q, N] from a file, of the ``method`` where it
    has several.

    Raises KeyError for columns and the method that the file lacks, and for queries and images that
    the bank does not know, ValueError for a file of another kind, ids of another type, and entries
    that are missing, doubled or not finite, by name.
    """
    readers = {".csv": partial(pd.read_csv, **TEXT), ".parquet": pd.read_parquet}
    queries = bank.queries
    if path.suffix not in readers:
        raise ValueError(f"{path} is no {' or '.join(readers)} file")
    table = readers[path.suffix](path)
    columns = ["query", "image_id", "score"]
    if lacking := [name for name in columns if name not in table]:
        raise KeyError(f"{path} lacks the columns {lacking}; expected {columns}")
    several = table.method.unique().tolist() if "method" in table else []
    if method is not None:
        if method not in several:
            raise KeyError(f"{path} has no method {method!r}; it has {several}")
        table = table[table.method == method].copy()
    elif len(several) > 1:
        raise ValueError(f"{path} has the methods {several}; choose one by --method NAME")
    if pd.api.types.is_numeric_dtype(table["query"]):
        of_study = path.resolve().is_relative_to(RESULTS)
        numbered = read_queries(RESULTS / "generate/base/queries.csv") if of_study else queries
        numbers = dict(zip(numbered["query"], numbered.name))
        table["query"] = table["query"].map(numbers).fillna(table["query"].astype(str))
    if unknown := sorted(set(table["query"]) - set(queries.name)):
        raise KeyError(f"{path} has queries that the bank was not asked: {unknown[:5]}")
    kind = type(bank.ids[0])
    if odd := [id for id in table.image_id.unique() if not isinstance(id, kind | np.integer)]:
        raise ValueError(f"{path} has image_id {odd[0]!r}; the bank's are like {bank.ids[0]!r}")
    if unknown := sorted(set(table.image_id) - set(bank.ids)):
        raise KeyError(f"{path} has images that the model did not train on: {unknown[:5]}")
    named = lambda rows: list(zip(rows["query"], rows.image_id))[:3]
    if len(doubled := table[table.duplicated(columns[:2])]):
        raise ValueError(f"{path} has {len(doubled)} entries twice: {named(doubled)}")
    if len(bad := table[~np.isfinite(table.score.astype(float))]):
        raise ValueError(f"{path} has {len(bad)} scores that are not finite: {named(bad)}")
    reported = queries[~queries.tuning].reset_index(drop=True)
    wide = table.pivot(index="query", columns="image_id", values="score")
    wide = wide.reindex(index=reported.name, columns=bank.ids)
    if len(missing := np.argwhere(wide.isna().to_numpy())):
        first = [(reported.name[q], bank.ids[i]) for q, i in missing[:3]]
        raise ValueError(f"{path} lacks {len(missing)} of {wide.size} scores: {first}")
    return reported, wide.to_numpy(np.float64)


def ranked(bank: Path) -> bool:
    """Whether this study's methods were judged by the same bank."""
    if not (OURS.is_file() and JUDGED_BY.is_file()):
        return False
    by = json.loads(JUDGED_BY.read_text()).get("bank")
    return by is not None and (ROOT / by).resolve() == bank.resolve()


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m abu.judge", description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--bank", type=Path, default=ROOT / "data/bank")
    parser.add_argument("--method", help="whose scores, where the file has several methods")
    told = "sharpen the scores first (abu.judge.sharpen), as those of this study are"
    parser.add_argument("--sharpness", type=float, help=told)
    given = parser.parse_args(words)
    bank = read_bank(given.bank)
    queries, scores = read_judged(given.scores, bank, given.method)
    latents = np.load(given.bank / "latents.npy")[queries["query"]]
    verdict = verdict_of(bank, queries.name, latents, tuning=False)
    scores = sharpen(scores, given.sharpness)
    table = table_of({"yours": scores}, verdict.halves, verdict.differences, queries.kind)
    print(f"Linear datamodelling score over {len(verdict.pairs)} pairs of halves, 95 % intervals:")
    for row in table.itertuples():
        bounds = f"({row.low:.3f} to {row.high:.3f})"
        print(f"  {row.kind:<14}{row.lds:6.3f}  {bounds}, {row.queries} queries")
    r, both = seeds_agree(bank, queries.name, latents)
    if len(r):
        ceiling = f"{max(r.mean(), 0) ** 0.5:.3f}"
        print(f"Ceiling, by {both} pairs of another seed: {ceiling}")
    if ranked(given.bank):
        like, told = ("raw", "as they are") if given.sharpness is None else ("lds", "sharpened")
        ours = pd.read_csv(OURS).query("kind == 'all'").set_index("method")[like]
        above = (ours > round(table.lds[0], 4)).sum()  # ours are rounded so
        print(f"Rank among the {len(ours)} methods of this study, {told} too: {above + 1}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (KeyError, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error.args[0] if len(error.args) == 1 else error}")
