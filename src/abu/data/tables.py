"""Tables whose texts come back as they were written: numbers, "NA", "" and any line break."""

import csv
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from abu.data.files import write_atomically


def cell(value: object) -> str:
    """A value as the text of a cell; None: nothing."""
    return "" if value is None else str(value)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """A csv file without the index; texts are quoted where they need it, all of them where one has
    a carriage return, which csv leaves bare."""
    columns = [table[name] for name in table.select_dtypes(["object", "string"])]
    bare = any("\r" in str(value) for column in columns for value in column)
    quoting = csv.QUOTE_NONNUMERIC if bare else csv.QUOTE_MINIMAL
    write_atomically(path, lambda file: table.to_csv(file, index=False, quoting=quoting))


def read_table(path: Path, texts: Collection[str] | None = None) -> pd.DataFrame:
    """A csv file whose columns ``texts`` (None: all but ``id``) are texts, letter by letter; others
    are numbers where all their cells are."""
    columns = pd.read_csv(path, nrows=0).columns
    kinds = {c: str for c in columns if (c != "id" if texts is None else c in texts)}
    return pd.read_csv(path, dtype=kinds, keep_default_na=False)
