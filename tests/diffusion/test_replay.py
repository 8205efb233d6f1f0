"""What is recorded is held against what is made here."""

from pathlib import Path

import pytest

from abu.diffusion.replay import check_recipe, check_replay


def test_another_recipe_is_named() -> None:
    recorded = {"steps": 560, "lr": 0.004, "widths": [64, 64]}
    check_recipe(Path("train.json"), recorded, dict(recorded))
    expected = "train.json is of another recipe: lr is 0.01, recorded was 0.004; muon_lr is 0.02"
    with pytest.raises(ValueError, match=expected):
        check_recipe(Path("train.json"), recorded, {**recorded, "lr": 0.01, "muon_lr": 0.02})


def test_another_beginning_is_refused_and_rounding_is_not() -> None:
    assert check_replay(Path("a.npz"), [1.0, 0.5, 0.4], [1.0, 0.50001]) == pytest.approx(2e-5)
    with pytest.raises(
        ValueError, match="a.npz: trained again, step 1 has the loss 0.51.*recorded"
    ):
        check_replay(Path("a.npz"), [1.0, 0.5, 0.4], [1.0, 0.51, 0.4])
    nothing = [float("nan"), 0.5]  # first step: no image was kept
    assert check_replay(Path("a.npz"), nothing, nothing) == 0
    with pytest.raises(ValueError, match="step 0"):
        check_replay(Path("a.npz"), [1.0], [float("nan")])
