"""What the shortcuts save: ``python benchmarks/fast.py embedded|paper`` (``embedded`` after the study has run).

Side by side in one process, alternating, each with a check that both sides give the same numbers: Fisher information of the key
and value weights against torch.func over all weights; the loss table against repeated text; one pass for 100 queries against one
finite pass a query; and the share of this machine's float32 matrix product rate that the loss pass reaches. Ratios are medians
over rounds, with their range. Peaks of memory are of a fresh process each. ``paper``: its 57.4M-parameter U-Net, random weights.
"""

import copy
import json
import multiprocessing
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.utils.flop_counter import FlopCounterMode

from abu import ROOT
from abu.core.fisher import draw_batch, fisher_diagonal
from abu.core.influence import first_order, gauss_newton, means
from abu.core.jobs import Attributed, by_weight, gradient_of, influence_of, rescore, unit_moves
from abu.core.store import answer, leading
from abu.core.unlearn import moved, over_flips
from abu.data.manifest import check_manifest
from abu.data.prepared import Prepared
from abu.data.queries import read_queries
from abu.diffusion.components import load_components
from abu.diffusion.losses import denoising_loss, loss_table, named_batches
from abu.diffusion.noise import normals
from abu.diffusion.unet import load_unet, select_weights, speed_up
from abu.judge.lds import correlations
from abu.judge.ranking import rank

PAPER = dict(
    sample_size=16, in_channels=4, out_channels=4, cross_attention_dim=1024, block_out_channels=(128, 256, 256, 256), layers_per_block=2,
    attention_head_dim=8, down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
)  # fmt: skip
SIZES = {"embedded": dict(images=32, steps=10, tokens=24, width=128, draws=4, fisher=32), "paper": dict(images=2, steps=20, tokens=77, width=1024, draws=4, fisher=4)}
QUERIES, COTANGENTS = 100, 2


def setting(name: str):
    """Model, scheduler, attributed weights, latents [N, 1, 4, 16, 16], token states [N, 1, L, D], ids, timesteps."""
    size = SIZES[name]
    torch.manual_seed(0)
    if name == "paper":
        unet = UNet2DConditionModel(**PAPER).requires_grad_(False).eval()
    else:
        unet = load_unet(Path(ROOT, "results/train/unet"))
    ids = list(range(size["images"]))
    latents = normals((1, 4, 16, 16), [("latents", i) for i in ids])
    texts = normals((1, size["tokens"], size["width"]), [("texts", i) for i in ids])
    scheduler = DDIMScheduler(prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2")
    steps = [(2 * k + 1) * 1000 // (2 * size["steps"]) for k in range(size["steps"])]
    return unet, scheduler, select_weights(unet, "cross-attn-kv"), latents, texts, ids, steps


def reference_fisher(unet, scheduler, weights, example, ids, draws: int) -> dict[str, Tensor]:
    """torch.func: per-example gradients of all weights, of which the attributed ones are squared and added in float64."""
    params = {name: p.detach() for name, p in unet.named_parameters()}

    def loss(p, x0, eps, t, text):
        model = lambda *args, **kwargs: functional_call(unet, p, args, kwargs)
        return denoising_loss(model, scheduler, x0[None], eps[None], t[None], text[None]).sum()

    each = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0), chunk_size=8)
    total = {name: torch.zeros_like(params[name], dtype=torch.float64) for name in weights}
    rows = [(i, k) for i in range(len(ids)) for k in range(draws)]
    for start in range(0, len(rows), 8):
        gradients = each(params, *draw_batch(scheduler, example, ids, rows[start : start + 8], 0)[1])
        for name in weights:
            total[name] += gradients[name].double().square().sum(0)
    return {name: value / len(rows) for name, value in total.items()}


@torch.no_grad()
def reference_losses(unet, scheduler, latents, texts, ids, steps) -> Tensor:
    """Plain diffusers: every row brings its own copy of the caption."""
    found = []
    for batch in named_batches(latents, texts, ids, steps, 0, 128):
        _, (x0, eps, t, text) = batch()
        found.append(denoising_loss(unet, scheduler, x0, eps, t, text.repeat_interleave(len(x0) // len(text), 0)))
    return torch.cat(found)


def fisher_sides(name: str) -> dict[str, Callable]:
    unet, scheduler, weights, latents, texts, ids, _ = setting(name)
    ids, example, draws = ids[: SIZES[name]["fisher"]], lambda i, flip, caption: (latents[i, 0], texts[i, 0]), SIZES[name]["draws"]
    slow = copy.deepcopy(unet).requires_grad_(True)
    return {
        "fast": lambda: fisher_diagonal(unet, scheduler, weights, example, ids, draws, batch_size=8),
        "reference": lambda: reference_fisher(slow, scheduler, weights, example, ids, draws),
    }


def rounds(sides: dict[str, Callable], count: int) -> tuple[dict[str, list[float]], dict]:
    """Seconds of each side, alternating, and what each returned first."""
    seconds, results = {side: [] for side in sides}, {}
    for _ in range(count):
        for side, call in sides.items():
            start = time.perf_counter()
            found = call()
            seconds[side].append(time.perf_counter() - start)
            results.setdefault(side, found)
    return seconds, results


def ratio(what: str, slow: list[float], fast: list[float], times: float = 1.0) -> dict:
    ratios = times * np.array(slow) / np.array(fast)
    print(f"{what:45s} {np.median(ratios):7.2f}x ({ratios.min():.2f} to {ratios.max():.2f})", flush=True)
    return {"what": what, "ratio": np.median(ratios), "lowest": ratios.min(), "highest": ratios.max(), "rounds": len(ratios)}


def peak(name: str, side: str, answer) -> None:
    """Growth of a fresh process's resident memory to the peak of one Fisher pass, bytes (Linux)."""
    call = fisher_sides(name)[side]
    read = lambda field: int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    start = read("VmRSS")
    call()
    answer.put(read("VmHWM") - start)


def peak_of(name: str, side: str) -> int:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=peak, args=(name, side, answer))
    process.start()
    found = answer.get()
    process.join()
    return found


def matmul_rate(size: int = 2048, count: int = 7) -> float:
    """Floating point operations a second of a float32 matrix product, the median."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds, _ = rounds({"product": lambda: a @ b}, count)
    return 2 * size**3 / np.median(seconds["product"])


def loss_rows(name: str, count: int) -> list[dict]:
    """The loss table against plain diffusers with repeated text, and its share of the rate of a matrix product."""
    unet, scheduler, _, *rest = setting(name)
    plain, last = copy.deepcopy(unet), speed_up(copy.deepcopy(unet), channels_last=True)
    table = lambda model: partial(loss_table, model, scheduler, *rest, batch_size=128)
    sides = {"shared": table(unet), "shared, channels last": table(last), "reference": lambda: reference_losses(plain, scheduler, *rest)}
    seconds, results = rounds(sides, count)
    with FlopCounterMode(display=False) as counter:
        sides["shared"]()
    rate, rows = max(matmul_rate(), matmul_rate()), []
    for side in ("shared", "shared, channels last"):
        torch.testing.assert_close(results[side].flatten(), results["reference"], rtol=1e-4, atol=1e-6)
        rows.append(ratio(f"loss table, {side}: time", seconds["reference"], seconds[side]))
        rows.append(ratio(f"loss pass, {side}: share of the matmul rate", list(counter.get_total_flops() / np.array(seconds[side])), [rate] * count))
    print(f"  ({rate / 1e9:.0f} GFLOP/s of a product of 2048 x 2048)")
    return rows


def study() -> tuple[Attributed, np.ndarray, dict, dict]:
    """The embedded study's model, images, caches and reported queries; its store; the cache's manifest; AbU's options."""
    components = load_components(ROOT / "results/components/model")
    data, cache = Prepared(ROOT / "results/prepare"), check_manifest(ROOT / "results/cache/manifest.json", {})
    queries = read_queries(ROOT / "results/generate/queries.csv").query("kind != 'tuning'").reset_index(drop=True)
    z, c = (torch.from_numpy(np.load(ROOT / f"results/generate/{n}.npy"))[queries["query"]] for n in ("latents", "texts"))
    unet, at = load_unet(ROOT / "results/train/unet"), data.rows(cache["ids"])
    shared = Attributed(
        unet, components.scheduler, select_weights(unet, cache["weights"]), data.latents[at, :1], data.texts[at], cache["ids"],
        cache["timesteps"], cache["seed"], 128, "cpu", cache["captions"], load_file(ROOT / "results/cache/curvature.safetensors"),
        (z, c, queries.name.tolist()),
    )
    options = json.loads((ROOT / "results/tune/chosen.json").read_text())["abu"]
    return shared, np.load(ROOT / "results/cache/store.npy", mmap_mode="c"), cache, options


def store_sides(draws: int = 10, share: float = 0.2, count: int = 5) -> list[dict]:
    """A new query by the finite pass, from the store, and in two stages; and the store against one pass for all queries."""
    shared, stored, cache, options = study()
    basis, dims, length = leading(shared.curvature, shared.weights, cache["store"]), shared.queries[0][0].numel(), options["relative_norm"]
    move = lambda q: length * unit_moves(shared, gradient_of(shared, q, draws)[None], "diagonal", options["damping"])
    ask = lambda deltas: over_flips(means(answer(stored, basis.of(by_weight(shared, deltas)), dims))[0].sum(0))
    everything = list(range(len(shared.ids)))

    def stages():
        delta = move(0)
        return rescore(shared, rank(ask(delta).numpy())[0, : round(share * len(everything))].tolist(), delta[0])

    seconds, _ = rounds({"finite": lambda: rescore(shared, everything, move(0)[0]), "store": lambda: ask(move(0)), "stages": stages}, count)
    rows = [ratio("a new query: finite pass against the store", seconds["finite"], seconds["store"])]
    rows += [ratio(f"a new query: finite pass against two stages, {share:.0%}", seconds["finite"], seconds["stages"])]
    print(f"  (a query from the store: {np.median(seconds['store']):.2f} s, of which its gradient is most)")
    deltas = torch.cat([move(q) for q in range(len(shared.queries[2]))])
    found = influence_of(shared, deltas, cache["cotangents"], 0, len(everything))
    alone = over_flips(means([(found[..., 0], found[..., 1:])])[0].sum(0)).numpy()
    agreement = correlations(ask(deltas).numpy(), alone)
    print(f"  (Spearman of the store against the pass, {len(deltas)} queries: {agreement.mean():.4f}, lowest {agreement.min():.4f})")
    return rows + [{"what": "store against pass: Spearman", "ratio": agreement.mean(), "lowest": agreement.min(), "highest": agreement.max(), "rounds": len(deltas)}]


def main(name: str) -> None:
    count, rows = (3, []) if name == "paper" else (5, [])
    unet, scheduler, weights, latents, texts, ids, steps = setting(name)
    print(f"{name}: {sum(p.numel() for p in unet.parameters()) / 1e6:.1f}M parameters, {sum(unet.get_parameter(w).numel() for w in weights) / 1e6:.2f}M attributed")

    seconds, results = rounds(fisher_sides(name), count)
    for weight in weights:
        a, b = (results[side][weight] for side in ("fast", "reference"))
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.max()))
    rows.append(ratio("Fisher information: time", seconds["reference"], seconds["fast"]))
    peaks = {side: peak_of(name, side) for side in ("reference", "fast")}
    rows.append(ratio("Fisher information: peak memory", [peaks["reference"]], [peaks["fast"]]))

    rows += loss_rows(name, 2 * count + 1)
    table = partial(loss_table, unet, scheduler, latents, texts, ids, steps, batch_size=128)
    deltas = {w: 0.01 * normals(tuple(unet.get_parameter(w).shape), [("delta", w, q) for q in range(QUERIES)]) for w in weights}
    shared = (unet, scheduler, weights, deltas, latents, texts, ids, steps)

    def finite():
        with moved(unet, {w: d[0] for w, d in deltas.items()}):
            return table()

    sides = {"finite": finite, "linear": lambda: first_order(*shared, batch_size=128), "gn": lambda: gauss_newton(*shared, COTANGENTS, batch_size=64 if name == "embedded" else 16)}
    seconds, results = rounds(sides, count)
    torch.testing.assert_close(results["linear"], results["gn"][0].mean(4), rtol=1e-2, atol=1e-3 * float(results["linear"].abs().max()))
    rows.append(ratio("100 queries: linear, against finite passes", seconds["finite"], seconds["linear"], QUERIES))
    rows.append(ratio("100 queries: linear + Gauss-Newton", seconds["finite"], seconds["gn"], QUERIES))
    rows += store_sides() if name == "embedded" else []
    path = Path(ROOT, "benchmarks/fast.csv")
    old = pd.read_csv(path).query("model != @name") if path.exists() else pd.DataFrame()
    pd.concat([old, pd.DataFrame(rows).assign(model=name)]).round(3).to_csv(path, index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
