"""A bounded store of the training images' gradients, from which a new query is answered without
touching an image.

Per image and draw it keeps the gradient of the loss and ``J^T v`` for random output cotangents v,
in the leading coordinates of the EK-FAC eigenbasis of the attributed weights: those with the
largest corrected eigenvalues, which hold most of a gradient's square. Kronecker factors make the
projection ``(U_G^T dy)(U_A^T x)^T``: no gradient is rotated as a whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from abu.core.curvature import fetch, rotated
from abu.core.influence import jacobian_products
from abu.core.taps import Taps
from abu.data.checks import check_finite
from abu.data.images import Images
from abu.data.readers import Tensors
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid


@dataclass(frozen=True)
class Basis:
    """The p leading coordinates of all weights together.

    ``vectors``: eigenvectors, as in ``abu.core.curvature``; ``places``: int64 [p_w] by weight, into
    its flat [O, I] coordinates; ``scale``: float32 [p], root of the eigenvalue: stored coordinates
    are divided by it, so that float16 holds them.
    """

    vectors: Tensors
    places: Tensors
    scale: Tensor

    def first(self, dimension: int) -> Tensor:
        """1 at the ``dimension`` largest of the p coordinates, 0 at others, float32 [p]."""
        places = self.scale.argsort(descending=True, stable=True)[:dimension]
        return torch.zeros(len(self.scale)).index_fill_(0, places, 1.0)

    def of(self, gradients: Tensors) -> Tensor:
        """Coordinates [Q, p] of moves [Q, O, I] by weight, scaled so that their product with stored
        ones is that of the weights."""
        coordinates = []
        for name, place in self.places.items():
            g = gradients[name].float()
            left, right = (self.vectors[f"{name}.{side}"].to(g) for side in ("outputs", "inputs"))
            coordinates.append((left.T @ g @ right).flatten(1)[:, place])
        return torch.cat(coordinates, 1).cpu() * self.scale

    def tapped(self, taps: Taps) -> Tensor:
        """Scaled coordinates [B, p] of per-example gradients, on their device."""
        of = lambda name, place: rotated(taps, name, self.vectors).flatten(1)[:, place]
        coordinates = torch.cat([of(*place) for place in self.places.items()], 1)
        return coordinates / self.scale.to(coordinates.device)


def leading(cached: Tensors, weights: Sequence[str], dimension: int) -> Basis:
    """The ``dimension`` coordinates with the largest corrected eigenvalues; raises KeyError without
    EK-FAC curvature."""
    names = [f"{name}.{side}" for name in weights for side in ("outputs", "inputs")]
    vectors = dict(zip(names, fetch(cached, names, "ekfac")))
    values = [cached[f"{name}.values"].flatten() for name in weights]
    order = torch.cat(values).argsort(descending=True, stable=True)
    best = order[:dimension].sort().values
    places, start = {}, 0
    for name, eigenvalues in zip(weights, values):
        places[name] = best[(best >= start) & (best < start + len(eigenvalues))] - start
        start += len(eigenvalues)
    return Basis(vectors, places, torch.cat(values)[best].sqrt().float())


@torch.no_grad()
def convert(values: Tensor) -> Tensor:
    """float16; raises FloatingPointError where a value does not fit."""
    small = values.half()
    check_finite("stored coordinates", small)
    return small


def project(
    denoiser: Denoiser, basis: Basis, images: Images, grid: Grid, cotangents: int
) -> Tensor:
    """Stored coordinates, float16 [N, F, C, T, 1 + cotangents, p]: of ``sqrt(D) grad L`` and of
    each ``J^T v / sqrt(D)``.

    The named draws are those of ``abu.core.influence.gauss_newton``. The roots of D, the output's
    numbers, bring both to one size. An image with k of C captions has zeros in place of those that
    it lacks, and its own times C / k, or, since they are squared, its root: so that means over
    captions are over its own.
    """
    root = images.latents[0, 0].numel() ** 0.5
    shape = (*grid.shape(images), 1 + cotangents, len(basis.scale))
    store, counts = torch.zeros(shape, dtype=torch.float16), grid.of(images).counts
    for (i, c, t, f), number, taps in jacobian_products(denoiser, images, grid, cotangents):
        coordinates = basis.tapped(taps) * (root if number == 0 else 1 / root)
        if counts is not None and not grid.spread:  # where they are, each has its turns
            more = (shape[2] / counts[i])[:, None].to(coordinates)
            coordinates = coordinates * (more if number == 0 else more.sqrt())
        store[i, f, grid.place(c), t, number] = convert(coordinates).cpu()
    return store


def answer(
    store: np.ndarray | Tensor, queries: Tensor, dims: int, chunk: int = 64
) -> Iterator[tuple[Tensor, Tensor]]:
    """First order [Q, n, F, C, T] and Gauss-Newton term [Q, n, F, C, T, cotangents] of ``chunk``
    images after ``chunk`` images from a store, which may be memory-mapped
    (``abu.core.influence.means`` reduces them).

    ``queries``: ``Basis.of`` their moves, [Q, p]; ``dims``: D, the output's numbers. As
    ``abu.core.influence.gauss_newton``, but for what the coordinates that were left out would add.
    """
    for start in range(0, len(store), chunk):
        rows = torch.as_tensor(np.asarray(store[start : start + chunk])).float()
        dots = (rows @ queries.T).movedim(-1, 0)
        yield dots[..., 0] / dims**0.5, dots[..., 1:].square()
