"""What methods and stages cost, in tables that no stage depends on: times differ between runs."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from abu.data.files import write_atomically

EXPERIMENT = os.environ.get("DVC_EXP_NAME")  # its results/ keep only what stages declare
PATH = Path("scratch/costs", f"{EXPERIMENT}.csv") if EXPERIMENT else Path("results/costs.csv")
COLUMNS = ["seconds_once", "seconds_per_query", "bytes"]

STAGES = Path("results/stages.csv")
STAGE = ["stage", "system"]  # "": none
MEASURED = ["seconds", "peak_bytes", "disk_bytes"]


def read(path: Path, index: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Table of a csv file, empty where there is none; an empty name is one, an empty number not."""
    if not path.exists():
        return pd.DataFrame(columns=[*index, *columns]).set_index(list(index))
    types, missing = dict.fromkeys(index, str), dict.fromkeys(columns, "")
    table = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=missing)
    return table.set_index(list(index))


def record(
    rows: dict[str | tuple[str, ...], dict[str, float]],
    path: Path = PATH,
    index: Sequence[str] = ("method",),
    columns: Sequence[str] = COLUMNS,
) -> None:
    """Set columns of rows, by default of methods: seconds once and for each query, bytes kept.

    Raises KeyError for another column.
    """
    table = read(path, index, columns)
    for name, values in rows.items():
        if unknown := values.keys() - set(columns):
            raise KeyError(f"cost {sorted(unknown)} is unknown; expected some of {list(columns)}")
        for column, value in values.items():
            table.loc[name, column] = round(float(value), 3)
    write_atomically(path, lambda file: table.astype(float).sort_index().to_csv(file))
