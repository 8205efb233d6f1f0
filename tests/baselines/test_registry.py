"""Methods by name."""

import pytest
import torch

from abu.baselines.registry import METHODS, scores, settings
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


def test_settings_are_all_combinations_one_damping_after_the_other() -> None:
    found = settings({"ridge": [1, 2], "damping": [0.1, 3]}, ["latents", "loss couplings"])
    assert not {"latent", "latent-ridge", "abu-whole"} & {method for method, _ in found}
    assert [options for method, options in found if method == "coupling-ridge"] == [
        {"damping": damping, "ridge": ridge} for damping in (0.1, 3) for ridge in (1, 2)
    ]
    dampings = [options["damping"] for _, options in found if "damping" in options]
    assert dampings == sorted(dampings) and len(dampings) == 2 + 4
    assert found.index(("das", {"ridge": 2})) < found.index(("coupling", {"damping": 0.1}))
    assert ("pixel", {}) in found
