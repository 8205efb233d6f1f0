"""Scores of many methods in one file (``method, query, image_id, score``), of which one method is in memory at a time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from abu.files import write_atomically


def write_scores(path: Path, found: dict[str, np.ndarray], queries: Sequence[int], ids: Sequence[int]) -> None:
    """Scores [Q, N] of each method, in the order of ``queries`` (numbers) and ``ids`` (of images), one method after the other."""

    def rows(method: str, values: np.ndarray) -> pa.Table:
        columns = {"query": np.repeat(np.asarray(queries), len(ids)), "image_id": np.tile(np.asarray(ids), len(queries))}
        return pa.table({"method": pa.repeat(method, values.size), **columns, "score": np.asarray(values, np.float64).ravel()})

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


def read_scores(path: Path, queries: Sequence[int], ids: Sequence[int], method: str | None = None) -> np.ndarray:
    """Scores of one method, float64 [Q, N]; ``method`` None: of a file that has but one and does not name it.

    Raises KeyError where the file lacks the method, a query or an image.
    """
    chosen = {} if method is None else {"filters": [("method", "==", method)]}
    table = pd.read_parquet(path, columns=["query", "image_id", "score"], **chosen)
    if table.empty:
        raise KeyError(f"{path} has no scores of {method!r}; expected one of {methods_in(path) if method else 'any'}")
    return table.pivot(index="query", columns="image_id", values="score").loc[list(queries), list(ids)].to_numpy()
