"""Sketched gradients of a denoiser: the features of TRAK, JourneyTRAK, D-TRAK, DAS and gradient
similarity."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abu.data.checks import check_counts, check_finite
from abu.data.images import Images
from abu.data.readers import Tensors
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.losses import check_timesteps, target
from abu.diffusion.noise import normals, stream

FUNCTIONS: dict[str, Callable] = {  # of the network's output and its target, [T, c, h, w]
    "loss": lambda output, wanted: (output - wanted).square().mean(),
    "square": lambda output, wanted: output.square().mean(),
    "mean": lambda output, wanted: output.mean(),
}


class Sketch:
    """Random projection P^T g of a gradient to ``dimension`` numbers, never written as a matrix.

    Every coordinate is added, under a random sign, to one random place (Charikar et al. 2002; the
    sparsest of Kane & Nelson 2014), so inner products are kept in expectation and memory is one
    place and one sign a coordinate. ``sizes`` are the weights' numbers of elements by name; each
    weight's draw is named (seed, "sketch", weight).
    """

    def __init__(self, sizes: dict[str, int], dimension: int, seed: int, device: Any = "cpu"):
        check_counts(dimension=dimension)
        self.dimension = dimension
        self.places, self.signs = {}, {}
        for name, size in sizes.items():
            draw = stream(seed, "sketch", name)
            self.places[name] = torch.from_numpy(draw.integers(dimension, size=size)).to(device)
            signs = torch.from_numpy(draw.integers(2, size=size) * 2 - 1)
            self.signs[name] = signs.to(device, torch.int8)

    def __call__(self, gradient: dict[str, Tensor]) -> Tensor:
        """Sketch of one gradient, float32 [dimension]."""
        out = torch.zeros(self.dimension, device=next(iter(self.places.values())).device)
        for name, g in gradient.items():
            out.index_add_(0, self.places[name], g.flatten().float() * self.signs[name])
        return out


def fold(features: Tensor, dimension: int) -> Tensor:
    """Sketches [N, p] brought to a smaller ``dimension``, which must divide p: the sum of p's equal
    parts is a sketch too."""
    if dimension < 1 or features.shape[1] % dimension:
        raise ValueError(f"projection size {dimension} does not divide {features.shape[1]}")
    return features.reshape(len(features), -1, dimension).sum(1)


@dataclass(frozen=True)
class Features:
    """What all tasks of gradient features share: the denoiser, whose ``weights`` are those that
    gradients are taken of, the sketch, and at which timesteps under noise of which seed."""

    denoiser: Denoiser
    sketch: Sketch
    timesteps: Sequence[int]
    seed: int


def gradient_feature(
    shared: Features,
    function: str,
    x0: Tensor,
    text: Tensor,
    name: int | str,
    path: Sequence[int] | None = None,
) -> tuple[Tensor, float]:
    """``P^T (1/T) sum_t grad f(x_t)`` of one image, [p], and its mean loss over the timesteps.

    ``x0``: [c, h, w], or [T, c, h, w] for one latent a timestep of ``path``, which then stands in
    place of the shared timesteps; ``text``: [L, D]; ``function``: a name in FUNCTIONS; the noise of
    timestep t is named (seed, name, "feature", t).
    """
    timesteps, scheduler = path or shared.timesteps, shared.denoiser.scheduler
    check_timesteps(scheduler, timesteps)
    if function not in FUNCTIONS:
        raise ValueError(f"output function is {function!r}; expected one of {sorted(FUNCTIONS)}")
    unet, weights = shared.denoiser.model(), shared.denoiser.weights
    params = [unet.get_parameter(weight) for weight in weights]
    device, count = params[0].device, len(timesteps)
    x0 = x0.float().to(device).expand(count, *x0.shape[-3:])
    t = torch.tensor(list(timesteps), device=device)
    keys = [(shared.seed, name, "feature", int(step)) for step in timesteps]
    eps = normals(tuple(x0.shape[1:]), keys).to(device)
    states = text.float().to(device).expand(count, *text.shape)
    output = unet(scheduler.add_noise(x0, eps, t), t, encoder_hidden_states=states).sample
    wanted = target(scheduler, x0, eps, t)
    gradient = torch.autograd.grad(FUNCTIONS[function](output, wanted), params, allow_unused=True)
    sketched = {weight: g for weight, g in zip(weights, gradient) if g is not None}
    feature = shared.sketch(sketched).cpu()
    check_finite(f"gradient feature of {name}", feature)
    return feature, (output - wanted).square().mean().item()


def feature_task(
    shared: Features, function: str, images: Images, path: Sequence[int] | None = None
) -> Tensors:
    """Task: ``features`` [n, p] and ``losses`` [n] of images, the first picture and caption of
    each.

    With a ``path`` an image has one latent a timestep of it, [n, 1, T, c, h, w].
    """
    x0, texts = images.latents[:, 0], images.texts[:, 0]
    rows = [gradient_feature(shared, function, *row, path) for row in zip(x0, texts, images.ids)]
    features, losses = zip(*rows)
    return {"features": torch.stack(features), "losses": torch.tensor(losses)}
