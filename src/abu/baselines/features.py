"""Sketched gradients of a denoiser, timestep by timestep, all functions of the output in one pass:
the features of TRAK, JourneyTRAK, D-TRAK, DAS, gradient similarity and coupling."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abu.core.store import convert
from abu.core.taps import Taps
from abu.data.checks import check_counts
from abu.data.images import Images, captions_of
from abu.data.readers import Tensors
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.losses import check_timesteps, target
from abu.diffusion.noise import normals, stream

RANDOM = "random"
"""Name of the features of random output cotangents."""


class Sketch:
    """Random projection P^T g of gradients to ``dimension`` numbers, never written as a matrix.

    Every coordinate is added, under a random sign, to one place (Charikar et al. 2002), so inner
    products are kept in expectation. Places follow each other from a random first one: a sketch is
    a sum of slices, several times faster than scattered places, and its signs alone make it
    unbiased. ``sizes`` are the weights' numbers of elements by name; each weight's draw is named
    (seed, "sketch", weight).
    """

    def __init__(self, sizes: dict[str, int], dimension: int, seed: int, device: Any = "cpu"):
        check_counts(dimension=dimension)
        self.dimension = dimension
        self.first, self.signs = {}, {}
        for name, size in sizes.items():
            draw = stream(seed, "sketch", name)
            self.first[name] = int(draw.integers(dimension))
            signs = torch.from_numpy(draw.integers(2, size=size) * 2 - 1)
            self.signs[name] = signs.to(device, torch.int8)

    def __call__(self, name: str, gradients: Tensor) -> Tensor:
        """What gradients [B, *shape] of one weight add to the sketches, float32 [B, dimension]."""
        signed, size = gradients.flatten(1).float() * self.signs[name], self.dimension
        head = min(size - self.first[name], signed.shape[1])  # up to the last place
        body = (signed.shape[1] - head) // size * size
        sketch = signed[:, head : head + body].view(len(signed), -1, size).sum(1)
        sketch[:, self.first[name] : self.first[name] + head] += signed[:, :head]
        tail = signed[:, head + body :]
        sketch[:, : tail.shape[1]] += tail
        return sketch


@dataclass(frozen=True)
class Features:
    """What all tasks of gradient features share: the denoiser, whose ``weights`` are those that
    gradients are taken of, the sketch, at which timesteps under noise of which seed, and how many
    random ``cotangents``."""

    denoiser: Denoiser
    sketch: Sketch
    timesteps: Sequence[int]
    seed: int
    cotangents: int = 0


def gradient_features(
    shared: Features, x0: Tensor, texts: Tensor, name: int | str, path: Sequence[int] | None = None
) -> Tensors:
    """Sketched gradients of one image at T timesteps, times the root of D, the output's numbers, so
    that float16 holds them: ``loss``, ``square`` and ``mean`` [T, p], of the mean over D of the
    squared residual, the squared output, the output; ``random`` [T, V, p]: ``J^T v / sqrt(D)``, v
    standard normal; and ``losses`` [T], float32.

    ``x0``: [c, h, w], or [T, c, h, w] for one latent a timestep of ``path``, which then stands in
    place of the shared timesteps; ``texts``: [T, L, D']; the noise of timestep t is named (seed,
    name, "feature", t), cotangent number k of it (seed, name, "cotangent", t, k). Raises
    FloatingPointError for a feature that float16 does not hold.
    """
    timesteps, scheduler = path or shared.timesteps, shared.denoiser.scheduler
    check_timesteps(scheduler, timesteps)
    unet, weights = shared.denoiser.model(), shared.denoiser.weights
    device, count = unet.get_parameter(weights[0]).device, len(timesteps)
    x0 = x0.float().to(device).expand(count, *x0.shape[-3:])
    t = torch.tensor(list(timesteps), device=device)
    draws = lambda *key: normals(tuple(x0.shape[1:]), [(shared.seed, name, *k) for k in key])
    eps = draws(*(("feature", int(step)) for step in timesteps)).to(device)
    with Taps(unet, weights) as taps:
        noisy = scheduler.add_noise(x0, eps, t)
        output = unet(noisy, t, encoder_hidden_states=texts.float().to(device)).sample.float()
        residual = (output - target(scheduler, x0, eps, t).float()).detach()
        root = residual[0].numel() ** 0.5
        fixed = output.detach()
        cotangents = {"loss": 2 * residual, "square": 2 * fixed, "mean": torch.ones_like(fixed)}
        for k in range(shared.cotangents):
            keys = (("cotangent", int(step), k) for step in timesteps)
            cotangents[f"{RANDOM} {k}"] = draws(*keys).to(device)
        features = {}
        for kind, cotangent in cotangents.items():
            taps.backward(output, cotangent / root, retain=kind != next(reversed(cotangents)))
            sketches = (shared.sketch(weight, taps.gradient(weight)) for weight in weights)
            features[kind] = convert(sum(sketches, torch.zeros((), device=device))).cpu()
    several = [features.pop(f"{RANDOM} {k}") for k in range(shared.cotangents)]
    if several:
        features[RANDOM] = torch.stack(several, 1)
    return {**features, "losses": residual.square().flatten(1).mean(1).cpu()}


def feature_task(shared: Features, images: Images, path: Sequence[int] | None = None) -> Tensors:
    """Task: ``gradient_features`` of images, [n, ...], of the first picture of each; timestep
    number j meets caption j modulo their number.

    With a ``path`` an image has one latent a timestep of it, [n, 1, T, c, h, w].
    """
    count, rows = len(path or shared.timesteps), []
    for i, name in enumerate(images.ids):
        texts = images.texts[i][torch.arange(count) % captions_of(images, i)]
        rows.append(gradient_features(shared, images.latents[i, 0], texts, name, path))
    return {kind: torch.stack([row[kind] for row in rows]) for kind in rows[0]}
