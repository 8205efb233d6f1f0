"""Methods that score training images for a query: each a short function of evidence, all in one registry.

Evidence comes in pairs, of queries [Q, ...] and of training images [N, ...], which may come in parts; scores are float64 [Q, N], the
higher the more responsible. Options (``ridge``, ``projection``) are those that the search chooses.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from abu.features import fold
from abu.noise import stream
from abu.rows import Parts, in_parts

Pair = tuple[Tensor, Tensor | Parts]


def distance(pair: Pair) -> Tensor:
    """``-||x_q - x_z||_2`` of pixels or latents."""
    q = pair[0].flatten(1).double()
    return -torch.cat([torch.cdist(q, part.flatten(1).double()) for part in in_parts(pair[1])], 1)


def cosine(pair: Pair) -> Tensor:
    """``<x_q, x_z> / (|x_q| |x_z|)`` of embeddings or gradients. Where the images have several vectors each, [N, C, D],
    the nearest counts."""
    q = normalize(pair[0].double(), dim=-1)
    parts = (normalize(part.double(), dim=-1).reshape(len(part), -1, q.shape[-1]) for part in in_parts(pair[1]))
    return torch.cat([torch.einsum("qd,ncd->qnc", q, x).amax(2) for x in parts], 1)


def dot(pair: Pair) -> Tensor:
    """``<grad L(q), grad L(z)>`` (TracIn with the last checkpoint alone, arXiv 2002.08484)."""
    return torch.cat([pair[0].double() @ part.double().T for part in in_parts(pair[1])], 1)


def chance(names: list[str], ids: list[int], seed: int) -> Tensor:
    """Uniform draws, each named (seed, "random", query, image id)."""
    return torch.tensor([[stream(seed, "random", name, id).random() for id in ids] for name in names], dtype=torch.float64)


def kernel(pair: Pair, ridge: float, projection: int) -> tuple[Tensor, Tensor]:
    """``phi(q)^T (Phi^T Phi + lambda I)^-1 phi(z)`` [Q, N], and the leverages of the training images [N].

    ``lambda = ridge * mean_z |phi(z)|^2``, so that ``ridge`` has no unit; solved in the smaller of N and ``projection``
    dimensions (``(Phi^T Phi + lambda)^-1 Phi^T = Phi^T (Phi Phi^T + lambda)^-1``), of which two square matrices are held.
    Raises ValueError unless ridge > 0.
    """
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}; expected a number above 0")
    q = fold(pair[0], projection).double()
    walk = lambda: (fold(part, projection).double() for part in in_parts(pair[1]))
    lengths = torch.cat([part.square().sum(1) for part in walk()])
    lam = ridge * lengths.mean()
    if len(lengths) <= projection:
        x = torch.cat(list(walk()))
        gram = x @ x.T
        solved = torch.linalg.solve(gram + lam * torch.eye(len(x), dtype=x.dtype), gram)  # (K + lambda)^-1 K
        return torch.linalg.solve(gram + lam * torch.eye(len(x), dtype=x.dtype), x @ q.T).T, solved.diagonal()
    square = lam * torch.eye(projection, dtype=q.dtype)
    for part in walk():
        square.addmm_(part.T, part)
    factor, found = torch.linalg.cholesky(square), []
    for part in walk():
        solved = torch.cholesky_solve(part.T, factor)  # [p, n]
        found.append(torch.cat([q @ solved, (part.T * solved).sum(0, keepdim=True)]))
    scores = torch.cat(found, 1)
    return scores[:-1], scores[-1]


def trak(pair: Pair, ridge: float, projection: int) -> Tensor:
    """TRAK (arXiv 2303.14186), one model: ``kernel`` of sketched loss gradients.

    JourneyTRAK (arXiv 2312.06205) is the same with a query gradient taken along the sampler's path, and D-TRAK
    (arXiv 2311.00500) with gradients of ``mean(output^2)`` in place of the loss.
    """
    return kernel(pair, ridge, projection)[0]


def das(pair: Pair, losses: Tensor, ridge: float, projection: int) -> Tensor:
    """DAS: ``|phi(q)^T (Phi^T Phi + lambda I)^-1 phi(z)|^2 |r_z|^2 / (1 - h_z)^2``.

    phi from gradients of ``mean(output)``; ``|r_z|^2``: mean squared residual (``losses`` [N]); h_z: leverage.
    """
    scores, leverage = kernel(pair, ridge, projection)
    return scores.square() * (losses.double() / (1 - leverage).square())


METHODS: dict[str, tuple[Callable, tuple[str, ...], tuple[str, ...]]] = {  # function, evidence, options
    "random": (chance, ("names", "ids", "seed"), ()),
    "pixel": (distance, ("pixels",), ()),
    "latent": (distance, ("latents",), ()),
    "clip-image": (cosine, ("clip images",), ()),
    "clip-text": (cosine, ("clip texts",), ()),
    "dino": (cosine, ("dino images",), ()),
    "gradient-dot": (dot, ("loss gradients",), ()),
    "gradient-cosine": (cosine, ("loss gradients",), ()),
    "trak": (trak, ("loss gradients",), ("ridge", "projection")),
    "journey-trak": (trak, ("journey gradients",), ("ridge", "projection")),
    "d-trak": (trak, ("square gradients",), ("ridge", "projection")),
    "das": (das, ("mean gradients", "losses"), ("ridge", "projection")),
}


def scores(method: str, evidence: Callable[[str], object], options: dict) -> np.ndarray:
    """Scores of one method, float64 [Q, N]; ``evidence(name)`` is asked for what the method needs and nothing else.

    Raises KeyError for an unknown method or a missing option, FloatingPointError for scores that are not finite.
    """
    if method not in METHODS:
        raise KeyError(f"unknown method {method!r}; expected one of {sorted(METHODS)}")
    function, needs, wanted = METHODS[method]
    if lacking := [name for name in wanted if name not in options]:
        raise KeyError(f"method {method!r} needs the options {lacking}")
    found = function(*(evidence(name) for name in needs), **{name: options[name] for name in wanted}).numpy()
    if not np.isfinite(found).all():
        raise FloatingPointError(f"{(~np.isfinite(found)).sum()} of {found.size} scores of {method!r} are not finite")
    return found
