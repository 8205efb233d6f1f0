"""What the shortcuts save: ``python benchmarks/fast.py [embedded] [paper] [--device cuda]``, both
models on the CPU where none is named (``embedded`` after the study has run).

Side by side in one process, alternating, each with a check that both sides give the same numbers:
Fisher information of the key and value weights against torch.func over all weights; the loss table
against repeated text; one pass for 100 queries against one finite pass a query; and the share of
this machine's float32 matrix product rate that the loss pass reaches. Ratios are medians over
rounds, with their range. Peaks of memory are of a fresh process each. ``embedded``: the study's
model, images and grid; ``paper``: its 57.4M-parameter U-Net, random weights. Writes
``benchmarks/fast.csv``, which says of each row what ran where.
"""

import copy
import json
import multiprocessing
import os
import re
import subprocess
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.utils.flop_counter import FlopCounterMode

from abu import ROOT
from abu.core.attribution import Attribution, gradient_of, influence_of, rescore, unit_moves
from abu.core.fisher import draw_batch, fisher_diagonal
from abu.core.influence import forward_mode, gauss_newton, means
from abu.core.store import answer, leading
from abu.core.unlearn import moved, over_flips
from abu.data.images import Images
from abu.data.readers import Tensors
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.device import use_device
from abu.diffusion.grid import Grid, batches
from abu.diffusion.losses import denoising_loss, loss_table
from abu.diffusion.noise import normals
from abu.diffusion.unet import select_weights, speed_up
from abu.judge.lds import correlations
from abu.judge.ranking import rank
from abu.study.banks import processor
from abu.study.caching import load_cached, read_cache
from abu.study.folders import results
from abu.study.system import load_queries, load_system

PAPER = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "cross_attention_dim": 1024,
    "block_out_channels": (128, 256, 256, 256),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
IMAGES = {"embedded": 32, "paper": 2}
FISHER = {"embedded": (32, 4), "paper": (4, 4)}  # images, draws of each
BATCH = {"embedded": 64, "paper": 128}
QUERIES, COTANGENTS = 100, 2
LENGTH = 0.1  # of a move over that of the weights


def setting(name: str, device: str, count: int | None = None) -> tuple[Denoiser, Images, Grid]:
    """A model with attributed keys and values, ``count`` images (``IMAGES``), and the grid under
    which their losses are taken."""
    count = count or IMAGES[name]
    if name == "embedded":
        shared = study(device)[0]
        return shared.denoiser, shared.images[:count], shared.grid
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**PAPER).requires_grad_(False).eval().to(device)
    ids = list(range(count))
    latents = normals((1, 4, 16, 16), [("latents", i) for i in ids])
    texts = normals((1, 77, PAPER["cross_attention_dim"]), [("texts", i) for i in ids])
    scheduler = DDIMScheduler(prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2")
    weights = select_weights(unet, "cross-attn-kv")
    denoiser = Denoiser(unet, scheduler, weights, device, BATCH[name])
    return denoiser, Images(ids, latents, texts), Grid(range(25, 1000, 50))


def reference_fisher(denoiser: Denoiser, images: Images, draws: int) -> Tensors:
    """torch.func: per-example gradients of all weights, of which the attributed ones are squared
    and added in float64."""
    unet, scheduler, weights = denoiser.unet, denoiser.scheduler, denoiser.weights
    params = {name: p.detach() for name, p in unet.named_parameters()}

    def loss(p, x0, eps, t, text):
        model = lambda *args, **kwargs: functional_call(unet, p, args, kwargs)
        return denoising_loss(model, scheduler, x0[None], eps[None], t[None], text[None]).sum()

    each = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0), chunk_size=8)
    total = {name: torch.zeros_like(params[name], dtype=torch.float64) for name in weights}
    rows = [(i, k) for i in range(len(images)) for k in range(draws)]
    for start in range(0, len(rows), 8):
        drawn = draw_batch(scheduler, images, rows[start : start + 8], 0)[1]
        gradients = each(params, *(x.to(denoiser.device) for x in drawn))
        for name in weights:
            total[name] += gradients[name].double().square().sum(0)
    return {name: value / len(rows) for name, value in total.items()}


@torch.no_grad()
def reference_losses(denoiser: Denoiser, images: Images, grid: Grid) -> Tensor:
    """Plain diffusers: every row brings its own copy of the caption."""
    table = torch.empty(grid.shape(images))
    for batch in batches(images, grid, denoiser.batch_size):
        (i, c, t, f), drawn = batch()
        x0, eps, steps, text = (x.to(denoiser.device) for x in drawn)
        text = text.repeat_interleave(len(x0) // len(text), 0)
        losses = denoising_loss(denoiser.unet, denoiser.scheduler, x0, eps, steps, text)
        table[i, f, grid.place(c), t] = losses.cpu()
    return table


def fisher_sides(name: str, device: str) -> dict[str, Callable]:
    count, draws = FISHER[name]
    denoiser, images, _ = setting(name, device, count)
    fast = replace(denoiser, batch_size=8)
    slow = replace(denoiser, unet=copy.deepcopy(denoiser.unet).requires_grad_(True))
    return {
        "fast": lambda: fisher_diagonal(fast, images, draws),
        "reference": lambda: reference_fisher(slow, images, draws),
    }


def rounds(sides: dict[str, Callable], count: int) -> tuple[dict[str, list[float]], dict]:
    """Seconds of each side, alternating, and what each returned first."""
    seconds, first = {side: [] for side in sides}, {}
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    for _ in range(count):
        for side, call in sides.items():
            start = time.perf_counter()
            found = call()
            wait()
            seconds[side].append(time.perf_counter() - start)
            first.setdefault(side, found)
    return seconds, first


def ratio(what: str, slow: list[float], fast: list[float], times: float = 1.0) -> dict:
    ratios = times * np.array(slow) / np.array(fast)
    middle, low, high = np.median(ratios), ratios.min(), ratios.max()
    print(f"{what:45s} {middle:7.2f}x ({low:.2f} to {high:.2f})", flush=True)
    found = {"ratio": middle, "lowest": low, "highest": high, "rounds": len(ratios)}
    return {"what": what, **found}


def peak(name: str, side: str, device: str, answer) -> None:
    """Growth of a fresh process's memory to the peak of one Fisher pass, bytes: of the accelerator,
    or resident (Linux)."""
    call, status = fisher_sides(name, device)[side], Path("/proc/self/status")
    if torch.cuda.is_initialized():
        start = torch.cuda.memory_allocated()
        call()
        return answer.put(torch.cuda.max_memory_allocated() - start)
    read = lambda field: int(re.search(rf"{field}:\s+(\d+) kB", status.read_text())[1]) * 1024
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    start = read("VmRSS")
    call()
    return answer.put(read("VmHWM") - start)


def peak_of(*asked: str) -> int:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=peak, args=(*asked, answer))
    process.start()
    found = answer.get()
    process.join()
    return found


def matmul_rate(device: str, size: int = 2048, count: int = 7) -> float:
    """Floating point operations a second of a float32 matrix product, the median."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    seconds, _ = rounds({"product": lambda: a @ b}, count)
    return 2 * size**3 / np.median(seconds["product"])


def loss_rows(name: str, device: str, count: int) -> list[dict]:
    """The loss table against plain diffusers with repeated text, and its share of the rate of a
    matrix product."""
    denoiser, *given = setting(name, device)
    plain, last = (
        replace(denoiser, unet=copy.deepcopy(denoiser.unet), speed=speed)
        for speed in ({}, {"channels_last": True})
    )
    speed_up(last.unet, channels_last=True)
    sides = {
        "shared": lambda: loss_table(denoiser, *given),
        "shared, channels last": lambda: loss_table(last, *given),
        "reference": lambda: reference_losses(plain, *given),
    }
    seconds, found = rounds(sides, count)
    with FlopCounterMode(display=False) as counter:
        sides["shared"]()
    rate, rows = max(matmul_rate(device), matmul_rate(device)), []
    for side in ("shared", "shared, channels last"):
        torch.testing.assert_close(found[side], found["reference"], rtol=1e-4, atol=1e-6)
        rows.append(ratio(f"loss table, {side}: time", seconds["reference"], seconds[side]))
        reached = list(counter.get_total_flops() / np.array(seconds[side]))
        what = f"loss pass, {side}: share of the matmul rate"
        rows.append(ratio(what, reached, [rate] * count))
    print(f"  ({rate / 1e9:.0f} GFLOP/s of a product of 2048 x 2048)")
    return rows


@lru_cache
def study(device: str) -> tuple[Attribution, np.ndarray, dict, dict]:
    """The study's trained model, images, caches and reported queries; its store; the cache's
    manifest; AbU's options."""
    manifest = json.loads((results("cache") / "manifest.json").read_text())
    speed = {"precision": manifest["precision"]}
    system = load_system(device=device)
    cached = load_cached(system, manifest["seed"], BATCH["embedded"], torch.device(device), speed)
    shared = replace(cached.attribution, queries=load_queries()[1])
    options = json.loads((results("tune") / "chosen.json").read_text())["abu"]
    return shared, read_cache(results("cache"), manifest, "c", "store"), manifest, options


def store_sides(device: str, draws: int = 10, share: float = 0.2, count: int = 5) -> list[dict]:
    """A new query by the finite pass, from the store, and in two stages; and the store against one
    pass for all queries."""
    shared, stored, cache, options = study(device)
    basis = leading(shared.curvature, shared.denoiser.weights, cache["store"])
    dims, everything = shared.queries.latents[0].numel(), list(range(len(shared.images)))
    of = lambda deltas, q: {name: delta[q] for name, delta in deltas.items()}

    def move(q: int) -> Tensors:
        gradient = {name: g[None] for name, g in gradient_of(shared, q, draws).items()}
        unit = unit_moves(shared, gradient, "diagonal", options["damping"])
        return {name: LENGTH * value for name, value in unit.items()}

    def ask(deltas: Tensors) -> np.ndarray:
        [both] = means(answer(stored, basis.of(deltas), dims))
        return over_flips(both.sum(0)).numpy()

    def finite() -> Tensors:
        return rescore(shared, everything, of(move(0), 0))

    def stages() -> Tensors:
        delta = move(0)
        candidates = rank(ask(delta))[0, : round(share * len(everything))].tolist()
        return rescore(shared, candidates, of(delta, 0))

    sides = {"finite": finite, "store": lambda: ask(move(0)), "stages": stages}
    seconds, _ = rounds(sides, count)
    against = "a new query: finite pass against"
    rows = [
        ratio(f"{against} the store", seconds["finite"], seconds["store"]),
        ratio(f"{against} two stages, {share:.0%}", seconds["finite"], seconds["stages"]),
    ]
    each = np.median(seconds["store"])
    print(f"  (a query from the store: {each:.2f} s, of which its gradient is most)")
    moves = [move(q) for q in range(len(shared.queries))]
    deltas = {name: torch.cat([one[name] for one in moves]) for name in moves[0]}
    dense = replace(shared, grid=replace(shared.grid, spread=False))  # as the store was made
    both = influence_of(dense, deltas, cache["cotangents"], 0, len(everything))
    alone = over_flips(means([(both["linear"], both["curved"])])[0].sum(0)).numpy()
    agreement = correlations(ask(deltas), alone)
    mean, low, high = agreement.mean(), agreement.min(), agreement.max()
    what = "store against pass: Spearman"
    print(f"  ({what}, {len(moves)} queries: {mean:.4f}, lowest {low:.4f})")
    last = {"ratio": mean, "lowest": low, "highest": high, "rounds": len(moves)}
    return rows + [{"what": what, **last}]


def renew(path: Path, rows: list[dict], name: str, device: str) -> None:
    """Put a model's rows on a device, with what ran where, in place of those that a table had."""
    commit = ["git", "rev-parse", "--short", "HEAD"]
    code = subprocess.run(commit, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    where = {"model": name, "device": device, "processor": processor(), "code": code}
    table = pd.DataFrame(rows).assign(**where)
    if path.exists():
        old = pd.read_csv(path)
        table = pd.concat([old[(old.model != name) | (old.device != device)], table])
    table.round(3).to_csv(path, index=False)


def main(name: str, device: str = "cpu") -> None:
    os.chdir(ROOT)
    device = str(use_device(device))
    count, rows = (3, []) if name == "paper" else (5, [])
    denoiser, images, grid = setting(name, device)
    shapes = {w: tuple(denoiser.unet.get_parameter(w).shape) for w in denoiser.weights}
    size = sum(p.numel() for p in denoiser.unet.parameters()) / 1e6
    attributed = sum(np.prod(shape) for shape in shapes.values()) / 1e6
    print(f"{name}: {size:.1f}M parameters, {attributed:.2f}M attributed")

    seconds, found = rounds(fisher_sides(name, device), count)
    for weight in shapes:
        a, b = (found[side][weight] for side in ("fast", "reference"))
        torch.testing.assert_close(a.cpu(), b.cpu(), rtol=1e-3, atol=1e-4 * float(b.max()))
    rows.append(ratio("Fisher information: time", seconds["reference"], seconds["fast"]))
    peaks = {side: peak_of(name, side, device) for side in ("reference", "fast")}
    what = "Fisher information: peak memory"
    rows.append(ratio(what, [peaks["reference"]], [peaks["fast"]]))

    rows += loss_rows(name, device, 2 * count + 1)
    drawn = lambda w: normals(shapes[w], [("delta", w, q) for q in range(QUERIES)])
    deltas = {w: 0.01 * drawn(w).to(device) for w in shapes}
    few = replace(denoiser, batch_size=64 if name == "embedded" else 16)

    def finite() -> Tensor:
        with moved(denoiser.unet, {w: d[0] for w, d in deltas.items()}):
            return loss_table(denoiser, images, grid)

    sides = {"finite": finite, "gn": lambda: gauss_newton(few, deltas, images, grid, COTANGENTS)}
    seconds, found = rounds(sides, count)
    linear = forward_mode(few, {w: d[0] for w, d in deltas.items()}, images, grid)[0]
    bound = 1e-3 * float(linear.abs().max())
    torch.testing.assert_close(found["gn"][0][0].cpu(), linear.cpu(), rtol=1e-2, atol=bound)
    what = "100 queries: linear + Gauss-Newton"
    rows.append(ratio(what, seconds["finite"], seconds["gn"], QUERIES))
    rows += store_sides(device) if name == "embedded" else []
    renew(Path("benchmarks/fast.csv"), rows, name, device)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("models", nargs="*", metavar="embedded|paper")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if unknown := {*given.models} - {"embedded", "paper"}:
        parser.error(f"unknown models {sorted(unknown)}; expected embedded, paper")
    for name in given.models or ("embedded", "paper"):
        main(name, given.device)
