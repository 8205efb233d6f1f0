"""Where a loss pass spends its time: ``python benchmarks/operators.py``, after the study.

Operators of torch's profiler over a loss table of the study's model and of the paper's U-Net
(random weights), in kinds: each kind's share of the pass, and, where it multiplies matrices, the
share of this machine's float32 matrix product rate that it reaches. Writes
``benchmarks/operators.csv`` and ``docs/operators.png``.
"""

import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from fast import matmul_rate, setting
from torch.profiler import ProfilerActivity, profile

from abu import ROOT
from abu.diffusion.losses import loss_table
from abu.report.style import GREY, WIDTH, save
from abu.study.banks import processor

KINDS = {  # of operators, by what their names contain, in this order
    "convolutions": ("conv",),
    "group norms": ("group_norm",),
    "layer norms": ("layer_norm",),
    "attention": ("attention",),
    "matrix products": ("addmm", "::mm", "bmm", "matmul"),
    "SiLU, GELU": ("silu", "gelu"),
    "copies, joins": ("copy", "cat", "clone", "contiguous", "index", "fill", "upsample", "stack"),
    "sums, products": ("add", "mul", "sub", "div", "pow", "mean", "sqrt", "sum"),
}
PRODUCTS = ("convolutions", "matrix products")
OTHER, OUTSIDE = "other operators", "outside operators"
TIMES = 5


def kind_of(operator: str) -> str:
    """The first kind that an operator's name fits."""
    fits = (kind for kind, parts in KINDS.items() if any(part in operator for part in parts))
    return next(fits, OTHER)


def shares(name: str) -> pd.DataFrame:
    """By kind of operator: ``share`` of a pass, ``GFLOP`` of it, ``rate`` as a share of a matrix
    product's. What no operator takes (drawing noise, Python) is outside."""
    denoiser, images, grid = setting(name, "cpu")
    once = lambda: loss_table(denoiser, images, grid)
    once()
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as found:
        start = time.perf_counter()
        for _ in range(TIMES):
            once()
        whole = time.perf_counter() - start
    rate = matmul_rate("cpu")
    rows = [(kind_of(e.key), e.self_cpu_time_total / 1e6, e.flops) for e in found.key_averages()]
    table = pd.DataFrame(rows, columns=["kind", "seconds", "flops"]).groupby("kind").sum()
    table.loc[OUTSIDE] = max(whole - table.seconds.sum(), 0), 0
    reached = (table.flops / table.seconds / rate).where(table.index.isin(PRODUCTS))
    parts = {"model": name, "share": table.seconds / whole, "GFLOP": table.flops / TIMES / 1e9}
    out = pd.DataFrame(parts | {"rate": reached}).sort_values("share", ascending=False)
    return out.reset_index().assign(processor=processor())


def main() -> None:
    os.chdir(ROOT)
    table = pd.concat([shares("embedded"), shares("paper")])
    table.round(4).to_csv("benchmarks/operators.csv", index=False)
    print(table.drop(columns="processor").round(3).to_string(index=False))
    names = {"embedded": "the study's U-Net", "paper": "the paper's U-Net"}
    figure, axis = plt.subplots(figsize=(WIDTH, 3.2), layout="constrained")
    shown = table.assign(model=table.model.map(names), share=100 * table.share)
    sns.barplot(shown, x="share", y="kind", hue="model", ax=axis)
    for bars, (_, of_model) in zip(axis.containers, table.groupby("model", sort=False)):
        rows = [label.get_text() for label in axis.get_yticklabels()]
        reached = of_model.set_index("kind").rate.reindex(rows)
        labels = ["" if pd.isna(r) else f" {r:.0%} of the rate" for r in reached]
        axis.bar_label(bars, labels, fontsize="x-small", color=GREY)
    axis.set(xlabel="share of a loss pass, %", ylabel="")
    axis.margins(x=0.15)
    axis.legend(title=None, loc="lower right")
    save(figure, Path("docs/operators.png"))


if __name__ == "__main__":
    main()
