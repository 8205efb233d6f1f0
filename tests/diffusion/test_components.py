"""The frozen parts: their schedule, and the recipe of the embedded ones."""

from dataclasses import replace

import pytest
import torch
from components import train_components

from abu import ROOT
from abu.data.pictures import read_image
from abu.diffusion.components import load_components


def test_a_model_may_have_another_noise_schedule_than_its_autoencoder(components) -> None:
    source = ROOT / "data/components"
    linear = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
    changed = load_components(source, schedule=linear).scheduler
    expected = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    torch.testing.assert_close(changed.alphas_cumprod.double(), expected, rtol=1e-4, atol=1e-7)
    assert changed.config.prediction_type == components.scheduler.config.prediction_type
    with pytest.raises(KeyError, match="the scheduler has no .'beta_shedule'"):
        load_components(source, schedule={"beta_shedule": "linear"})


def test_recipe_of_the_components_trains_and_loads(tmp_path, records) -> None:
    pixels = torch.stack([torch.from_numpy(read_image(r.path, 64)) for r in records])
    captions = [list(r.captions) for r in records]
    train_components(pixels, captions, tmp_path, vae_steps=1, clip_steps=1)
    parts = load_components(tmp_path)
    assert parts.texts(["skull"]).shape == (1, 24, 128)
    latents = parts.encode(pixels[:1])
    assert latents.shape == (1, 16, 8, 8) and parts.decode(latents).shape == (1, 3, 64, 64)
    assert parts.factor == 8
    plain = replace(parts, pack=1)
    unpacked = plain.encode(pixels[:1])
    assert unpacked.shape == (1, 4, 16, 16) and plain.factor == 4
    assert torch.equal(latents[0, 1::4], unpacked[0, :, ::2, 1::2])  # row 0, column 1 of each four
    assert torch.equal(parts.decode(latents), plain.decode(unpacked))
