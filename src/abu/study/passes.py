"""The passes of ``abu.study.plan``, each run by the very function that a stage calls, on random weights and inputs of the study's sizes."""

import copy
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor

from abu.baselines.features import Sketch, feature_task
from abu.baselines.kernels import kernel
from abu.core.influence import means
from abu.core.jobs import (
    Attributed,
    curvature_of,
    eigenvalues_of,
    forward_of,
    gradient_of,
    influence_of,
    losses_of,
    shapes_of,
    store_of,
)
from abu.core.store import answer, leading
from abu.data.captions import Captioned
from abu.data.pictures import read_image
from abu.diffusion.customize import customize
from abu.diffusion.encode import prepare
from abu.diffusion.noise import normal, stream
from abu.diffusion.sample import sample
from abu.diffusion.train import train
from abu.diffusion.unet import select_weights
from abu.study.counts import solve_gflop
from abu.study.sizes import Blank, Sizes
from abu.study.tasks import timed

Run = Callable[[int], tuple[float, float]]
"""Runs about so many units, but no fewer than belong together: how many they were, and the seconds that they took."""


class Bench:
    """Random models and inputs of a study's sizes. ``config``: the U-Net's; ``side``: of pictures; ``recipe``: section ``train``;
    ``speed``: options of ``abu.diffusion.unet.speed_up``; ``draw``: what draws strips of pictures."""

    def __init__(
        self,
        components: Blank,
        config: dict,
        sizes: Sizes,
        side: int,
        recipe: dict,
        speed: dict,
        device: torch.device | str,
        draw: Callable | None = None,
    ):
        self.draw = draw
        self.components, self.config, self.latent, self.text = (
            components,
            config,
            sizes.latent,
            (sizes.tokens, sizes.width),
        )
        self.side, self.recipe, self.speed, self.device, self.picture = (
            side,
            recipe,
            speed,
            torch.device(device),
            sizes.picture,
        )
        components.text_encoder.to(device)
        components.vae.to(device)
        self.unet = UNet2DConditionModel.from_config(config).requires_grad_(False).eval().to(device)
        self.fast = copy.deepcopy(self.unet)  # of the stages that may be sped up

    def normal(self, *shape: int) -> Tensor:
        return normal(shape, "plan")

    def shared(
        self,
        images: int,
        times: int,
        batch: int,
        selection: str = "cross-attn-kv",
        curvature: dict | None = None,
    ) -> Attributed:
        """So many images and timesteps, and one query."""
        names = select_weights(self.fast, selection)
        return Attributed(
            self.fast,
            self.components.scheduler,
            names,
            self.normal(images, 1, *self.latent),
            self.normal(images, 1, *self.text),
            list(range(images)),
            list(range(times)),
            0,
            batch,
            str(self.device),
            curvature=curvature or {},
            queries=(self.normal(1, *self.latent), self.normal(1, *self.text), ["query"]),
            speed=self.speed,
        )

    def basis(self, selection: str) -> dict[str, Tensor]:
        """Curvature as EK-FAC leaves it, the eigenvectors unit vectors."""
        shared = self.shared(1, 1, 1, selection)
        sides = {
            n: torch.eye(s[0], dtype=torch.float64)
            for n, s in shapes_of(shared, "ekfac").items()
            if n not in shared.weights
        }
        return sides | {
            n: self.normal(*s).double().abs() for n, s in shapes_of(shared, "values").items()
        }

    def moves(self, shared: Attributed, queries: int) -> Tensor:
        return self.normal(
            queries, sum(torch.Size(shape).numel() for shape in shapes_of(shared).values())
        )


def losses(bench: Bench, batch: int, share: int) -> Run:
    def run(rows: int):
        n = max(1, rows // share)
        return n * share, timed(losses_of, bench.shared(n, share, batch), (0, n))[1]

    return run


def sampling(bench: Bench, batch: int) -> Run:
    def run(rows: int):
        n = max(1, rows // 2)
        texts, names = (
            (bench.normal(n, *bench.text), bench.normal(*bench.text)),
            [(i,) for i in range(n)],
        )
        return 2 * n, timed(
            sample, bench.unet, (bench.components.scheduler, *texts, names, bench.latent, 1)
        )[1]

    return run


def training(bench: Bench, batch: int) -> Run:
    """Three steps, of which the first pays for the start and counts as the others."""
    ids = list(range(batch))
    data = SimpleNamespace(
        ids=ids,
        latents=bench.normal(batch, 2, *bench.latent),
        texts=bench.normal(batch, 1, *bench.text),
        empty=bench.normal(*bench.text),
        rows=torch.tensor,
    )
    names = ("lr", "warmup", "caption_dropout", "flips", "ema_decay", "clip_norm", "precision")
    recipe = {name: bench.recipe[name] for name in names}

    def run(rows: int):
        ends, size = [], min(rows, batch)
        observe = lambda unet: ends.append(time.perf_counter()) or {}
        train(
            data,
            bench.components.scheduler,
            bench.config,
            ids,
            3,
            size,
            **recipe,
            device=str(bench.device),
            checkpoint_every=1,
            observe=observe,
            progress="",
        )
        return 3 * size, 1.5 * (ends[-1] - ends[0])

    return run


def fisher(bench: Bench, batch: int, selection: str, curvature: str) -> Run:
    return lambda rows: (
        rows,
        timed(curvature_of, bench.shared(rows, 1, batch, selection), (1, curvature, 0, rows))[1],
    )


def eigenvalues(bench: Bench, batch: int, selection: str) -> Run:
    basis = bench.basis(selection)
    return lambda rows: (
        rows,
        timed(eigenvalues_of, bench.shared(rows, 1, batch, selection, basis), (1, 0, rows))[1],
    )


def storing(
    bench: Bench, batch: int, selection: str, times: int, cotangents: int, dimension: int
) -> Run:
    weights = bench.shared(1, 1, 1, selection).weights
    basis = leading(bench.basis(selection), weights, dimension)

    def run(rows: int):
        n = max(1, rows // times)
        return n * times, timed(
            store_of, bench.shared(n, times, batch, selection), (basis, cotangents, 0, n)
        )[1]

    return run


def influence(
    bench: Bench, batch: int, selection: str, times: int, cotangents: int, queries: int
) -> Run:
    def run(rows: int):
        n = max(1, rows // times)
        shared = bench.shared(n, times, batch, selection)
        return n * times, timed(
            influence_of, shared, (bench.moves(shared, queries), cotangents, 0, n)
        )[1]

    return run


def forward_mode(bench: Bench, batch: int, selection: str, times: int) -> Run:
    def run(rows: int):
        n = max(1, rows // times)
        shared = bench.shared(n, times, batch, selection)
        return n * times, timed(forward_of, shared, (bench.moves(shared, 1)[0], 0, n))[1]

    return run


def gradient(bench: Bench, batch: int, selection: str) -> Run:
    last = bench.components.scheduler.config.num_train_timesteps
    return lambda rows: (
        min(rows, last),
        timed(gradient_of, bench.shared(1, min(rows, last), batch, selection), (0, 1))[1],
    )


def features(bench: Bench, batch: int, selection: str, dimension: int) -> Run:
    names = select_weights(bench.unet, selection)
    sketch = Sketch(
        {name: bench.unet.get_parameter(name).numel() for name in names}, dimension, 0, bench.device
    )
    shared = {
        "scheduler": bench.components.scheduler,
        "weights": names,
        "sketch": sketch,
        "timesteps": range(batch),
        "seed": 0,
    }

    def run(rows: int):
        n = max(1, rows // batch)
        select_weights(bench.unet, selection)
        arguments = (
            "loss",
            bench.normal(n, 1, *bench.latent),
            bench.normal(n, 1, *bench.text),
            [(i,) for i in range(n)],
        )
        return n * batch, timed(feature_task, {**shared, "unet": bench.unet}, arguments)[1]

    return run


def customizing(bench: Bench, batch: int, groups: int) -> Run:
    inputs, words, steps = bench.normal(4, *bench.latent), ["word"] * 4, 2

    def run(rows: int):
        size = max(1, rows // groups)
        prior = (inputs, words) if groups > 1 else None
        arguments = (
            bench.components,
            "word",
            inputs,
            words,
            list(range(4)),
            steps,
            size,
            1e-4,
            1e-4,
            10,
            0,
            prior,
            1.0,
            1.0,
            "",
        )
        return steps * size * groups, timed(customize, bench.unet, arguments)[1]

    return run


def preparing(bench: Bench, batch: int, captions: int, states: str) -> Run:
    def run(pictures: int):
        with tempfile.TemporaryDirectory() as folder:
            file = a_picture(bench, Path(folder))
            records = [Captioned(i, file, ("caption",) * captions, {}) for i in range(pictures)]
            return pictures, timed(
                prepare, records, (bench.components, Path(folder), bench.side, states)
            )[1]

    return run


def a_picture(bench: Bench, folder: Path) -> Path:
    """A picture of the data, or one of noise that is written to ``folder``."""
    if bench.picture:
        return bench.picture
    noise = stream("plan", "picture").integers(
        256, size=(bench.side, bench.side, 3), dtype=np.uint8
    )
    Image.fromarray(noise).save(folder / "noise.png")
    return folder / "noise.png"


def reading(bench: Bench, batch: int) -> Run:
    def run(pictures: int):
        with tempfile.TemporaryDirectory() as folder:
            file = a_picture(bench, Path(folder))
            return pictures, timed(
                lambda side: [read_image(file, side) for _ in range(pictures)], bench.side, ()
            )[1]

    return run


def encoding(bench: Bench, batch: int) -> Run:
    return lambda captions: (
        captions,
        timed(bench.components.states, torch.zeros(captions, bench.text[0], dtype=torch.int64), ())[
            1
        ],
    )


def decoding(bench: Bench, batch: int) -> Run:
    return lambda pictures: (
        pictures,
        timed(bench.components.decode, bench.normal(pictures, *bench.latent), ())[1],
    )


def solving(bench: Bench, batch: int) -> Run:
    def run(gflop: int):
        n, dimension = 512, 2048 * max(1, gflop)
        return solve_gflop(n, 8, dimension), timed(
            kernel, (bench.normal(8, dimension), bench.normal(n, dimension)), (1.0, dimension)
        )[1]

    return run


def answering(bench: Bench, batch: int, shape: tuple[int, ...], queries: int) -> Run:
    coordinates, dims = bench.normal(queries, shape[-1]), int(np.prod(bench.latent))
    return lambda images: (
        images,
        timed(
            lambda *given: means(answer(*given)),
            np.zeros((images, 1, 1, *shape), np.float16),
            (coordinates, dims),
        )[1],
    )


def drawing(bench: Bench, batch: int) -> Run:
    pictures = np.zeros((4, 3, bench.side, bench.side), np.float32)

    def draw(rows: int) -> None:
        shown = pictures[None, [0] * 7].repeat(rows, 0)
        figure = bench.draw(
            pictures[[0] * rows],
            ["name"] * rows,
            shown,
            np.ones((rows, 7)),
            np.ones((rows, 7), bool),
        )
        figure.savefig(io.BytesIO(), format="png", bbox_inches="tight")
        plt.close(figure)

    return lambda panels: (8 * max(1, panels // 8), timed(draw, max(1, panels // 8), ())[1])


RUNS: dict[
    str, Callable[..., Run]
] = {  # by kind of pass; called with a bench, the batch and the options of a pass
    "losses": losses,
    "sample": sampling,
    "train": training,
    "fisher": fisher,
    "eigenvalues": eigenvalues,
    "store": storing,
    "influence": influence,
    "gradient": gradient,
    "features": features,
    "forward mode": forward_mode,
    "customize": customizing,
    "prepare": preparing,
    "text": encoding,
    "decode": decoding,
    "read": reading,
    "solve": solving,
    "answer": answering,
    "panel": drawing,
}
