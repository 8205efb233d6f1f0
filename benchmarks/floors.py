"""What bounds a shortcut: ``python benchmarks/floors.py embedded|paper [DEVICE]``, after the study.

The passes of ``fast.py`` taken apart, side by side in one process: each part is the one before it
and one thing more, told in plain forward passes of the same rows. Where a forward and the backward
passes that the mathematics asks for take as long as the bar allows, no code can reach the bar.
``most``: the ratio of ``fast.py`` if all but those passes were free. Writes
``benchmarks/floors.csv``.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from fast import COTANGENTS, FISHER, QUERIES, fisher_sides, renew, rounds, setting

from abu import ROOT
from abu.core.fisher import draw_batch, per_example
from abu.core.influence import gauss_newton, jacobian_products
from abu.diffusion.device import use_device
from abu.diffusion.losses import denoising_loss, loss_table
from abu.diffusion.noise import normals


def walked(batches: Iterator) -> None:
    for _ in batches:
        pass


def fisher_parts(name: str, device: str) -> dict[str, Callable]:
    """Fisher information of the same rows in batches of 8, part by part."""
    count, draws = FISHER[name]
    denoiser, images, _ = setting(name, device, count)
    denoiser, whole = replace(denoiser, batch_size=8), fisher_sides(name, device)
    rows = [(i, k) for i in range(count) for k in range(draws)]
    parts = [rows[start : start + 8] for start in range(0, len(rows), 8)]

    def drawn() -> list:
        return [draw_batch(denoiser.scheduler, images, part, 0)[1] for part in parts]

    @torch.no_grad()
    def forward() -> None:
        for batch in drawn():
            denoising_loss(denoiser.unet, denoiser.scheduler, *(x.to(device) for x in batch))

    return {
        "draws": drawn,
        "forward": forward,
        "forward, backward": lambda: walked(per_example(denoiser, images, draws)),
        "whole": whole["fast"],
        "reference": whole["reference"],
    }


def influence_parts(name: str, device: str) -> dict[str, Callable]:
    """Every query at once, part by part, beside a finite pass over the same rows."""
    denoiser, images, grid = setting(name, device)
    few = replace(denoiser, batch_size=64 if name == "embedded" else 16)
    shapes = {w: tuple(denoiser.unet.get_parameter(w).shape) for w in denoiser.weights}
    drawn = lambda w: normals(shapes[w], [("delta", w, q) for q in range(QUERIES)])
    deltas = {w: 0.01 * drawn(w).to(device) for w in shapes}
    passes = lambda cotangents: walked(jacobian_products(few, images, grid, cotangents))
    return {
        "forward": lambda: loss_table(denoiser, images, grid),
        "forward, backward": partial(passes, 0),
        "forward, backward of loss and cotangents": partial(passes, COTANGENTS),
        "whole": lambda: gauss_newton(few, deltas, images, grid, COTANGENTS),
    }


def told(what: str, sides: dict[str, Callable], count: int, most: Callable) -> list[dict]:
    """Each part in forward passes, median and range over rounds, and what ``most`` makes of the
    seconds."""
    seconds = {side: np.array(s) for side, s in rounds(sides, count)[0].items()}
    values = {side: s / seconds["forward"] for side, s in seconds.items()} | {"most": most(seconds)}
    found = []
    for part, ratios in values.items():
        middle, low, high = np.median(ratios), ratios.min(), ratios.max()
        print(f"{what:12s} {part:45s} {middle:7.2f} ({low:.2f} to {high:.2f})", flush=True)
        found.append({"what": what, "part": part, "ratio": middle, "lowest": low, "highest": high})
    return found


def main(name: str, device: str = "cpu") -> None:
    os.chdir(ROOT)
    device, count = str(use_device(device)), 3 if name == "paper" else 7
    needs = "forward, backward"
    most = lambda s: s["reference"] / (s[needs] - s["draws"])
    rows = told("Fisher", fisher_parts(name, device), count, most)
    most = lambda s: QUERIES * s["forward"] / s[f"{needs} of loss and cotangents"]
    rows += told("100 queries", influence_parts(name, device), count, most)
    renew(Path("benchmarks/floors.csv"), rows, name, device)


if __name__ == "__main__":
    main(*sys.argv[1:])
