"""What a model of the bank costs beside one that is trained alone by the plain loop:
``python benchmarks/bank.py``, after the study.

Alternating, steps of recorded halves: ``plain``, alone on two threads by the loop as one writes it
first (a matrix after the other, tensors of the optimizer one by one); ``ours``, alone on two
threads by ``abu.diffusion.train``; and ``at once``, as the bank trains them: two models, one thread
each. All must give the same losses. A step's seconds are those of more steps less those of few, so
that what comes first is left out. Ratios are medians over rounds, with their range. Writes
``benchmarks/bank.csv``.

The network is not compiled: what is left of a batch differs from step to step, and for batches of
many sizes (``dynamic=True``) the compiler of torch 2.13 ends in an error of its own.
"""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch
from fast import ratio, renew

from abu import ROOT
from abu.diffusion import train as loop
from abu.diffusion.losses import denoising_loss
from abu.diffusion.muon import matrices_and_rest, orthogonal
from abu.judge.retrain import Retraining
from abu.study import banks

FEW, MORE, ROUNDS = 2, 22, 3
SIDES = {"plain": 2, "ours": 2, "at once": 1}  # threads a model
TOGETHER = {1: 2, 2: 1}  # models at once, by threads
OFF = 1e-3  # of a loss, between sides


@cache
def halves() -> tuple[Retraining, list]:
    """What retrainings share, and the first pair of halves."""
    asked = banks.opened()[1]
    return asked.shared, [model for model in asked.plan if model.pair == 0][:2]


def plain(shared: Retraining, keep: list[int], seed: int, steps: int) -> list[float]:
    """Losses of the first steps of the recipe by a plain loop."""
    recipe, data, scheduler = shared.recipe, shared.data, shared.scheduler
    unet = loop.initial_unet(recipe.config, seed)
    matrices, rest = matrices_and_rest(unet)
    adam = torch.optim.AdamW(rest, recipe.lr, weight_decay=0.01, foreach=False)
    momenta = [torch.zeros_like(p) for p in matrices]
    means = [p.detach().clone() for p in unet.parameters()]
    kept, losses = set(data.rows(keep).tolist()), []
    for step in range(steps):
        slots = loop.slots(len(data.ids), step, recipe.batch_size, seed)
        batch = loop.batch(data, scheduler, [row for row in slots if row[0] in kept], seed, recipe)
        unet.zero_grad()
        loss = denoising_loss(unet, scheduler, *batch).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), recipe.clip_norm)
        factor = loop.learning_rate(step, recipe.steps, recipe.warmup)
        adam.param_groups[0]["lr"] = factor * recipe.lr
        adam.step()
        with torch.no_grad():
            for p, momentum in zip(matrices, momenta):
                momentum.lerp_(p.grad, 0.05)
                move = p.grad.lerp(momentum, 0.95).flatten(1)
                rate = factor * recipe.muon_lr * max(1, move.shape[0] / move.shape[1]) ** 0.5
                p.sub_(rate * orthogonal(move[None])[0].view_as(p))
            for mean, p in zip(means, unet.parameters()):
                mean.lerp_(p, 1 - recipe.ema_decay)
        losses.append(loss.item())
    return losses


def begin(side: str) -> None:
    """Of a process that trains models."""
    os.chdir(ROOT)
    halves()
    torch.set_num_threads(SIDES[side])


def train(side: str, number: int, steps: int) -> tuple[list[float], float]:
    """Losses of the first steps of a half, and seconds."""
    shared, models = halves()
    removed, seed = set(models[number].removed), models[number].seed
    keep = [id for id in shared.train_ids if id not in removed]
    start = time.perf_counter()
    if side == "plain":
        losses = plain(shared, keep, seed, steps)
    else:
        given = shared.data, shared.scheduler, shared.recipe, keep, seed, "cpu"
        losses = loop.train(*given, progress="", stop=steps)[1]
    return losses, time.perf_counter() - start


def main() -> None:
    os.chdir(ROOT)
    context = multiprocessing.get_context("spawn")
    pools = {
        side: ProcessPoolExecutor(TOGETHER[threads], context, begin, (side,))
        for side, threads in SIDES.items()
    }

    def both(side: str, steps: int) -> tuple[list[list[float]], float]:
        """Losses of both halves, and seconds a model."""
        if TOGETHER[SIDES[side]] == 1:
            done = [pools[side].submit(train, side, n, steps).result() for n in (0, 1)]
            return [losses for losses, _ in done], sum(seconds for _, seconds in done) / 2
        waiting = [pools[side].submit(train, side, n, steps) for n in (0, 1)]
        done = [each.result() for each in waiting]
        return [losses for losses, _ in done], max(seconds for _, seconds in done) / 2

    first = {side: both(side, FEW)[1] for side in SIDES}
    print("first steps, seconds:", {side: round(seconds, 1) for side, seconds in first.items()})
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(ROUNDS):
        losses = {}
        for side in SIDES:
            few = both(side, FEW)[1]
            losses[side], more = both(side, MORE)
            seconds[side].append((more - few) / (MORE - FEW))
        for side, those in losses.items():
            np.testing.assert_allclose(those, losses["plain"], OFF, err_msg=side)
    print({side: np.round(those, 3).tolist() for side, those in seconds.items()})
    against = "a step of a bank's model: the plain loop against"
    rows = [
        ratio(f"{against} {side}", seconds["plain"], seconds[side])
        for side in SIDES
        if side != "plain"
    ]
    renew(Path("benchmarks/bank.csv"), rows, "embedded", "cpu")


if __name__ == "__main__":
    main()
