"""What each method cost, in a table that no stage depends on: times differ between equal runs."""

import os
from pathlib import Path

import pandas as pd

from abu.cache import write_atomically

EXPERIMENT = os.environ.get("DVC_EXP_NAME")  # its results/ keep only what stages declare; scratch/ is shared
PATH = Path("scratch/costs", f"{EXPERIMENT}.csv") if EXPERIMENT else Path("results/costs.csv")
COLUMNS = ["seconds_once", "seconds_per_query", "bytes"]


def record(rows: dict[str, dict[str, float]], path: Path = PATH) -> None:
    """Set columns of methods' rows: seconds once for a model, seconds for each query, bytes kept for the next query.

    Raises KeyError for another column.
    """
    table = pd.read_csv(path, index_col="method") if path.exists() else pd.DataFrame(columns=COLUMNS).rename_axis("method")
    for method, values in rows.items():
        if unknown := values.keys() - set(COLUMNS):
            raise KeyError(f"cost {sorted(unknown)} is unknown; expected some of {COLUMNS}")
        for column, value in values.items():
            table.loc[method, column] = round(float(value), 3)
    write_atomically(path, lambda file: table.astype(float).sort_index().to_csv(file))
