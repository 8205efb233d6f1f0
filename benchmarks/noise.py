"""How much of a loss pass goes into named noise? ``python benchmarks/noise.py`` (after the study
has run).

Side by side in one run: losses of the same rows with the noise drawn by name, and with noise drawn
beforehand; then the draws alone by name, and by one unnamed call of torch. Medians of repeated
rounds, with their range.
"""

import os
import time

import numpy as np
import torch

from abu import ROOT
from abu.diffusion.losses import denoising_loss
from abu.diffusion.noise import normals
from abu.study.system import load_system

ROWS, ROUNDS = 128, 9


@torch.no_grad()
def main() -> None:
    os.chdir(ROOT)
    system = load_system()
    images, scheduler, unet = system.images, system.components.scheduler, system.unet
    rows = min(ROWS, len(images))
    keys = [(0, "loss", id, 0, 500) for id in images.ids[:rows]]
    x0, text = images.latents[:rows, 0], images.texts[:rows, 0].float()
    t = torch.full((rows,), 500)
    draw = lambda: normals(tuple(x0.shape[1:]), keys)
    fixed = draw()
    contenders = {
        "loss, named noise": lambda: denoising_loss(unet, scheduler, x0, draw(), t, text),
        "loss, noise at hand": lambda: denoising_loss(unet, scheduler, x0, fixed, t, text),
        "named draws": draw,
        "one unnamed draw": lambda: torch.randn_like(fixed),
    }
    results = [run() for run in contenders.values()]
    assert torch.equal(results[0], results[1]), "both sides must give the same losses"
    seconds = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    base = np.median(seconds["loss, noise at hand"])
    for name, values in seconds.items():
        ratios = np.array(values) / base
        middle, low, high = np.median(ratios), ratios.min(), ratios.max()
        print(f"{name:20s} {middle:6.3f} of a loss pass ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
