"""Methods by name."""

import pytest
import torch

from abu.baselines.registry import METHODS, scores
from abu.diffusion.noise import stream


def test_registry_asks_for_what_it_needs_and_names_what_is_missing() -> None:
    pair = tuple(
        torch.from_numpy(stream(n).standard_normal((i, 8))) for n, i in (("q", 2), ("x", 3))
    )
    asked = []
    evidence = lambda name: asked.append(name) or (torch.ones(3) if name == "losses" else pair)
    options = {"ridge": 1.0, "other": 0}
    assert scores("das", evidence, options).shape == (2, 3)
    assert asked == ["mean gradients", "losses"]
    with pytest.raises(KeyError, match="needs the options"):
        scores("trak", evidence, {"damping": 1.0})
    with pytest.raises(KeyError, match="unknown method 'tracks'"):
        scores("tracks", evidence, {})
    with pytest.raises(FloatingPointError, match="scores of 'pixel': 6 of 6 values"):
        scores("pixel", lambda name: (pair[0] * float("nan"), pair[1]), {})
    assert all(function.__doc__ for function, *_ in METHODS.values())
