"""What each method cost, in a table that no stage depends on: times differ between equal runs."""

from pathlib import Path

import pandas as pd

from abu.cache import write_atomically

PATH = Path("results/costs.csv")


def record(rows: dict[str, tuple[float, float, int]], path: Path = PATH) -> None:
    """Set the rows of methods: seconds once for a model, seconds for each query, bytes kept for the next query."""
    columns = ["method", "seconds_once", "seconds_per_query", "bytes"]
    table = pd.read_csv(path).set_index("method") if path.exists() else pd.DataFrame(columns=columns).set_index("method")
    for method, values in rows.items():
        table.loc[method] = [round(float(v), 2) for v in values]
    write_atomically(path, lambda file: table.sort_index().astype({"bytes": "int64"}).to_csv(file))
