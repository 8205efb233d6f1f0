"""Similarities against loops."""

import re

import numpy as np
import pytest
import torch

from abu.baselines.similarity import alike, bm25, chance, cosine, distance, dot
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
    assert torch.equal(chance(["a", "b"], [7, 9, 11], 0)[1:, 1:], chance(["b"], [9, 11], 0))


def test_words_are_weighed_as_okapi_bm25_says() -> None:
    images = [
        ["a red heart", "heart, love"],
        ["a blue heart"],
        ["fox", "fox face, a"],
        ["", "的 狐"],
    ]
    prompts = ["red fox", "heart a", "", "狐"]
    scores = bm25((prompts, images))
    texts = [re.findall(r"\w+", " ".join(few)) for few in images]
    mean = np.mean([len(words) for words in texts])
    for q, prompt in enumerate(prompts):
        for i, words in enumerate(texts):
            expected = 0.0
            for word in re.findall(r"\w+", prompt):
                having = sum(word in others for others in texts)
                rarity = np.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
                damped = words.count(word) + 1.5 * (0.25 + 0.75 * len(words) / mean)
                expected += rarity * words.count(word) * 2.5 / damped
            assert scores[q, i] == pytest.approx(expected)
    assert not bm25(([""], [[""], [""]])).any()  # no word anywhere


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
