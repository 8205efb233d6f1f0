"""What a unit of each kind of work takes here, by the functions that stages call."""

import contextlib
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from abu.baselines.features import Features, Sketch, feature_task
from abu.core import attribution as core
from abu.data.images import Images
from abu.data.queries import Queries
from abu.diffusion.components import Components, packing
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid
from abu.diffusion.noise import normal
from abu.diffusion.sample import sample
from abu.diffusion.scheduler import load_scheduler
from abu.diffusion.train import Recipe, train
from abu.diffusion.unet import published_config, select_weights


class Bench:
    """Random models of a study (all its parameters) for a kind of system, from configs alone.

    ``losses`` and the methods below do ``n`` units, or as many as they return: rows (a noisy latent
    once through the U-Net); ``sample``: steps of a picture; ``prepare``: pictures and their mirror
    images; ``text``: captions. Raises OSError without configs."""

    def __init__(self, study: dict, kind: str = "base", device: torch.device | str = "cpu"):
        of = lambda stage: (study[stage] or {}) | (study["changes"][kind].get(stage) or {})
        self.of, self.study, self.device = of, study, str(device)
        self.cache, self.like = of("cache"), of("compare")["features"] or study["tune"]
        source, given = study["components"]["source"], study["train"]
        text = CLIPTextConfig.from_pretrained(source, subfolder="text_encoder")
        vae = AutoencoderKL.load_config(source, subfolder="vae")
        self.scheduler = load_scheduler(source)
        self.side, pack = study["prepare"]["side"], packing(source)
        factor = pack * 2 ** (len(vae["block_out_channels"]) - 1)
        self.latent = (vae["latent_channels"] * pack**2, *[self.side // factor] * 2)
        self.tokens = (text.max_position_embeddings, text.hidden_size)
        self.config = dict.fromkeys(("in_channels", "out_channels"), self.latent[0])
        self.config |= {"cross_attention_dim": text.hidden_size, **given["unet"]}
        if given["source"] and not Path(given["source"]).is_file():
            self.config, _ = published_config(given["source"])
        self.frozen = [CLIPTextModel(text), AutoencoderKL.from_config(vae)]
        frozen = (model.requires_grad_(False).eval().to(device) for model in self.frozen)
        self.components = Components(None, *frozen, self.scheduler)
        self.unet = UNet2DConditionModel.from_config(self.config).eval().to(device)
        self.speed = {k: study["common"][k] for k in ("precision", "compile", "channels_last")}

    def shared(self, n: int, times: int = 10, weights: str = "") -> core.Attribution:
        """About so many rows, up to ``times`` of one image; and one query."""
        names = select_weights(self.unet, weights or self.cache["weights"])
        options = self.device, self.cache["batch_size"], self.speed
        denoiser = Denoiser(self.unet, self.scheduler, names, *options)
        x, texts = (normal((max(1, n // times), 1, *s), "x") for s in (self.latent, self.tokens))
        images, query = Images(range(len(x)), x, texts), Queries(["query"], x[:1, 0], texts[:1, 0])
        return core.Attribution(denoiser, images, Grid(range(min(times, n))), queries=query)

    def losses(self, n: int):
        return core.losses_of(self.shared(n), 0, n)["losses"].numel()

    def fisher(self, n: int):
        core.curvature_of(self.shared(n, times=1), 1, self.cache["curvature"], 0, n)

    def influence(self, n: int):
        """Rows with a backward pass for each cotangent too, as the store has them."""
        shared = self.shared(n)
        move = {name: torch.zeros(1, *shape) for name, shape in shared.shapes().items()}
        return core.influence_of(shared, move, self.cache["cotangents"], 0, n)["linear"].numel()

    def gradient(self, n: int):
        core.gradient_of(self.shared(1), 0, n)

    def features(self, n: int):
        shared = self.shared(1, weights=self.like["weights"])
        sizes = {name: shape.numel() for name, shape in shared.shapes().items()}
        sketch = Sketch(sizes, self.like["dimension"], 0, self.device)
        self.begin = time.perf_counter()  # one sketch serves all
        features = Features(shared.denoiser, sketch, range(n), 0, self.like["cotangents"])
        feature_task(features, shared.images)

    def sample(self, n: int):
        texts, names = normal((n, *self.tokens), "x"), [(i,) for i in range(n)]
        sample(self.unet, self.scheduler, texts, texts[0], names, self.latent, steps=1)

    def train(self, n: int):
        images, c, ends = self.shared(n, times=1).images, self.study["train"], []
        data = SimpleNamespace(**vars(images), empty=images.texts[0, 0], rows=torch.tensor)
        recipe = Recipe(self.config, 3, n, c["lr"], 0, flips=False, precision=c["precision"])
        observe = lambda unet: ends.append(time.perf_counter()) or {}
        options = {"device": self.device, "checkpoint_every": 1, "observe": observe, "progress": ""}
        train(data, self.scheduler, recipe, images.ids, **options)
        self.begin = ends[0]  # the first of three steps pays for the start
        return 2 * n

    def prepare(self, n: int):
        for _ in range(n):
            self.components.encode(torch.zeros(2, 3, self.side, self.side))

    def text(self, n: int):
        self.components.states(torch.zeros(n, self.tokens[0], dtype=torch.int64))


def measure(bench: Bench, kind: str, seconds: float) -> tuple[float, int, int]:
    """Seconds of a unit; peak bytes of the process, of an accelerator: at the batch, or at as many
    units as take a third of ``seconds``."""
    sizes = {"train": bench.study["train"]["batch_size"], "features": len(bench.like["timesteps"])}
    n, run, batch = 1, getattr(bench, kind), sizes.get(kind, bench.cache["batch_size"])
    run(1)  # pays for what is made once
    while True:
        before, bench.begin = peak(reset=True), time.perf_counter()
        done = run(n) or n
        spent = time.perf_counter() - bench.begin
        if n == batch or 3 * spent > seconds:
            peaks = before + (peak() - before) * batch / n  # as if all went at once
            return spent / done, *peaks.tolist()
        n = min(3 * n, batch)


def peak(reset: bool = False) -> np.ndarray:
    """Most bytes of this process (Linux) and of an accelerator since the last reset."""
    gpu, kilobytes = torch.cuda.is_available(), 0
    with contextlib.suppress(OSError):
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        kilobytes = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    if reset and gpu:
        torch.cuda.reset_peak_memory_stats()
    return np.array([1024 * kilobytes, torch.cuda.max_memory_allocated() if gpu else 0])
