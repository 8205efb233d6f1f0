"""The table of ablations as text, in the paper's form."""

import pandas as pd

MEASURES = {  # heading -> metric, whether more is better (None: neither)
    "LDS": ("lds", True),
    "beside the study": ("difference", None),
    "own pictures found": ("own_recall", True),
    "average precision": ("average_precision", True),
    "query's rise": ("target_rise", True),
    "others' rise": ("others_rise", False),
    "relative norm": ("relative_norm", None),
    "s a query": ("seconds", None),
}


def markdown(table: pd.DataFrame) -> str:
    """The table in the paper's form: choices of one factor under each other, the default marked,
    the best value of a factor bold."""
    measured = lambda metric: table[metric].notna().any()
    shown = {name: measure for name, measure in MEASURES.items() if measured(measure[0])}
    lines = [["", "", *shown], ["---"] * (2 + len(shown))]
    for factor, choices in table.groupby(level="factor", sort=False):
        for place, ((_, value), line) in enumerate(choices.iterrows()):
            cells = [cell(choices, line, metric, more) for metric, more in shown.values()]
            label = f"{value} (default)" if line.default else value
            cells = cells if line.state == "ran" else [line.state, *[""] * (len(shown) - 1)]
            lines.append([factor if place == 0 else "", label, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cell(part: pd.DataFrame, line: pd.Series, metric: str, more: bool | None) -> str:
    """One number with its interval or standard error, bold if it is the best of the choices in
    ``part``, unless all are equal; what stands beside the study, if it is told apart."""
    if pd.isna(line[metric]):
        return ""
    error = line.get(f"{metric}_se")
    if metric == "difference":
        text = f"{line.difference:+.2f} ({line.least:+.2f} to {line.most:+.2f})"
        return f"**{text}**" if line.apart else text
    text = f"{line[metric]:.3g}"
    if metric == "lds" and pd.notna(line.low):
        text += f" ({line.low:.2f} to {line.high:.2f})"
    elif error is not None and pd.notna(error):
        text += f" ± {error:.2g}"
    best = None if more is None else part[metric].max() if more else part[metric].min()
    return f"**{text}**" if line[metric] == best and part[metric].nunique() > 1 else text
