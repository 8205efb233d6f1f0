"""Scores of many methods in one file (``method, query, image_id, score``), of which one method is
in memory at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from abu.data.files import write_atomically


def write_scores(
    path: Path, found: dict[str, np.ndarray], queries: Sequence[int], ids: Sequence[int]
) -> None:
    """Scores [Q, N] of each method, in the order of ``queries`` (numbers) and ``ids`` (of images),
    one method after the other."""

    pairs = {"query": np.repeat(np.asarray(queries), len(ids))}
    pairs["image_id"] = np.tile(np.asarray(ids), len(queries))

    def rows(method: str, values: np.ndarray) -> pa.Table:
        scores = {"score": np.asarray(values, np.float64).ravel()}
        return pa.table({"method": pa.repeat(method, values.size), **pairs, **scores})

    def write(file: Path) -> None:
        tables = (rows(method, values) for method, values in found.items())
        first = next(tables)
        with ParquetWriter(file, first.schema) as writer:
            for table in (first, *tables):
                writer.write_table(table)

    write_atomically(path, write)


def methods_in(path: Path) -> list[str]:
    """Methods of a file, in its order."""
    return pd.read_parquet(path, columns=["method"]).method.unique().tolist()


def each_method(path: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows of one method after the other, by name."""
    for method in methods_in(path):
        yield method, one_method(path, method)


def one_method(path: Path, method: str) -> pd.DataFrame:
    """Rows of one method; raises KeyError for one that the file lacks."""
    table = pd.read_parquet(path, filters=[("method", "==", method)])
    if table.empty:
        raise KeyError(f"{path} has no scores of {method!r}; expected one of {methods_in(path)}")
    return table


def read_scores(
    path: Path, queries: Sequence[int], ids: Sequence[int], method: str | None = None
) -> np.ndarray:
    """Scores of one method, float64 [Q, N]; ``method`` None: of a file that has but one and does
    not name it.

    Raises KeyError where the file lacks the method, a query or an image, ValueError where a query
    lacks an image that others have.
    """
    table = pd.read_parquet(path) if method is None else one_method(path, method)
    wide = table.pivot(index="query", columns="image_id", values="score")
    values = wide.loc[list(queries), list(ids)].to_numpy()
    if np.isnan(values).any():
        lacking = f"{int(np.isnan(values).sum())} of {values.size} scores"
        raise ValueError(f"{path} lacks {lacking} of {method or 'its method'!r}")
    return values
