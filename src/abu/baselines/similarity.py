"""Similarity of a query and a training image: scores float64 [Q, N] from a pair of evidence, of
queries [Q, ...] and of training images [N, ...], which may come in parts, or of their words."""

import numpy as np
import torch
from sklearn.feature_extraction.text import CountVectorizer
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
    """``<x_q, x_z> / (|x_q| |x_z|)`` of embeddings or gradients."""
    q = normalize(pair[0].double(), dim=-1)
    parts = (normalize(part.double(), dim=-1) for part in in_parts(pair[1]))
    return torch.cat([q @ part.T for part in parts], 1)


def dot(pair: Pair) -> Tensor:
    """``<grad L(q), grad L(z)>`` (TracIn with the last checkpoint alone, arXiv 2002.08484)."""
    return torch.cat([pair[0].double() @ part.double().T for part in in_parts(pair[1])], 1)


def bm25(
    texts: tuple[list[str], list[list[str]]], saturation: float = 1.5, by_length: float = 0.75
) -> Tensor:
    """Okapi BM25 of a query's prompt in all captions of an image together (``saturation`` k1,
    ``by_length`` b): its words, the rarer among images the more, and 0 for a query without any."""
    prompts, images = texts[0], [" ".join(captions) for captions in texts[1]]
    words = CountVectorizer(token_pattern=r"\w+").fit([*prompts, *images, "a word at least"])
    counts = words.transform(images).astype(np.float64)
    n, having, length = len(images), counts.getnnz(0), counts.sum(1).A1
    rarity = np.log1p((n - having + 0.5) / (having + 0.5))
    norm = 1 - by_length + by_length * length / max(length.mean(), 1)
    rows = np.repeat(norm, np.diff(counts.indptr))
    counts.data *= (saturation + 1) / (counts.data + saturation * rows) * rarity[counts.indices]
    return torch.from_numpy((words.transform(prompts) @ counts.T).toarray())


def chance(names: list[str], ids: list[int], seed: int) -> Tensor:
    """Uniform draws, each named (seed, "random", query, image id)."""
    draw = lambda name, id: stream(seed, "random", name, id).random()
    return torch.tensor([[draw(name, id) for id in ids] for name in names], dtype=torch.float64)


def alike(queries: Queries, images: Images) -> dict[str, np.ndarray]:
    """Scores, float64 [Q, N], that ask no model: distance of ``latents`` to the image's (not its
    mirror image's), and cosine of the mean token states of ``captions``, the image's first."""
    words = torch.cat([part.mean(1) for part in column(images.texts)])
    captions = cosine((queries.texts.mean(1), words))
    latents = distance((queries.latents, column(images.latents)))
    return {"latents": latents.numpy(), "captions": captions.numpy()}
