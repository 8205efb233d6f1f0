"""Similarities against loops."""

import pytest
import torch

from abu.baselines.similarity import alike, chance, cosine, distance, dot
from abu.data.images import Images
from abu.data.queries import Queries
from abu.diffusion.noise import stream


def test_similarities_equal_loops() -> None:
    q, x = (torch.from_numpy(stream(n).standard_normal((i, 6))) for n, i in (("q", 2), ("x", 5)))
    for a in range(2):
        for b in range(5):
            far = float(((q[a] - x[b]) ** 2).sum().sqrt())
            assert distance((q, x))[a, b] == pytest.approx(-far)
            assert dot((q, x))[a, b] == pytest.approx(float((q[a] * x[b]).sum()))
            near = float(torch.cosine_similarity(q[a], x[b], 0))
            assert cosine((q, x))[a, b] == pytest.approx(near)
    several = torch.stack([x, x.flip(0)], 1)
    nearest = torch.maximum(cosine((q, x)), cosine((q, x.flip(0))))
    assert torch.equal(cosine((q, several)), nearest)
    assert torch.equal(chance(["a", "b"], [7, 9, 11], 0)[1:, 1:], chance(["b"], [9, 11], 0))


def test_what_looks_alike_is_near_the_image_and_its_first_caption() -> None:
    draw = stream("alike")
    tensor = lambda *shape: torch.from_numpy(draw.standard_normal(shape))
    queries = Queries(["a", "b"], tensor(2, 1, 2, 2), tensor(2, 3, 4))
    images = Images(range(5), tensor(5, 2, 1, 2, 2), tensor(5, 2, 3, 4))
    found = alike(queries, images)
    for q in range(2):
        for i in range(5):
            far = float((queries.latents[q] - images.latents[i, 0]).norm())
            assert found["latents"][q, i] == pytest.approx(-far)
            states = queries.texts[q].mean(0), images.texts[i, 0].mean(0)
            near = float(torch.cosine_similarity(*states, 0))
            assert found["captions"][q, i] == pytest.approx(near)
