"""Similarity of a query and a training image: scores float64 [Q, N] from a pair of evidence, of
queries [Q, ...] and of training images [N, ...], which may come in parts."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from abu.data.images import Images
from abu.data.queries import Queries
from abu.data.rows import Parts, column, in_parts
from abu.diffusion.noise import stream

Pair = tuple[Tensor, Tensor | Parts]


def distance(pair: Pair) -> Tensor:
    """``-||x_q - x_z||_2`` of pixels or latents."""
    q = pair[0].flatten(1).double()
    return -torch.cat([torch.cdist(q, part.flatten(1).double()) for part in in_parts(pair[1])], 1)


def cosine(pair: Pair) -> Tensor:
    """``<x_q, x_z> / (|x_q| |x_z|)`` of embeddings or gradients. Where the images have several
    vectors each, [N, C, D], the nearest counts."""
    q = normalize(pair[0].double(), dim=-1)
    parts = (
        normalize(part.double(), dim=-1).reshape(len(part), -1, q.shape[-1])
        for part in in_parts(pair[1])
    )
    return torch.cat([torch.einsum("qd,ncd->qnc", q, x).amax(2) for x in parts], 1)


def dot(pair: Pair) -> Tensor:
    """``<grad L(q), grad L(z)>`` (TracIn with the last checkpoint alone, arXiv 2002.08484)."""
    return torch.cat([pair[0].double() @ part.double().T for part in in_parts(pair[1])], 1)


def chance(names: list[str], ids: list[int], seed: int) -> Tensor:
    """Uniform draws, each named (seed, "random", query, image id)."""
    draw = lambda name, id: stream(seed, "random", name, id).random()
    return torch.tensor([[draw(name, id) for id in ids] for name in names], dtype=torch.float64)


def alike(queries: Queries, images: Images) -> dict[str, np.ndarray]:
    """Scores, float64 [Q, N], that ask no model: distance of ``latents`` to the image's (not its
    mirror image's), and cosine of the mean token states of ``captions``, the image's first."""
    words = torch.cat([part.mean(1) for part in column(images.texts)])
    scores = {
        "latents": distance((queries.latents, column(images.latents))),
        "captions": cosine((queries.texts.mean(1), words)),
    }
    return {name: values.numpy() for name, values in scores.items()}
