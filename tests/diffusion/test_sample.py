"""Drawn pictures do not depend on their batch."""

import pytest
import torch

from abu.diffusion.noise import normals
from abu.diffusion.sample import sample


def test_sample_is_the_same_in_any_batch(unet, scheduler) -> None:
    texts, empty = normals((6, 8), [("text", i) for i in range(3)]), torch.zeros(6, 8)
    names = [(0, "query", i) for i in range(3)]
    draw = lambda chosen, **options: sample(
        unet, scheduler, texts[chosen], empty, names[chosen], (4, 8, 8), **options
    )
    for eta in (0.0, 1.0):
        together = draw(slice(None), steps=3, eta=eta)
        alone = draw(slice(2, None), steps=3, eta=eta)
        torch.testing.assert_close(together[2:], alone, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="no query"):
        draw(slice(0))
