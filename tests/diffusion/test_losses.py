"""Denoising losses against a plain loop, and against diffusers."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from helpers import IDS, TIMESTEPS

from abu.diffusion.grid import Grid
from abu.diffusion.losses import check_timesteps, denoising_loss, loss_table
from abu.diffusion.noise import normal, normals


def test_losses_equal_a_plain_loop_and_follow_the_ids(denoiser, images) -> None:
    grid, unet, scheduler = Grid(TIMESTEPS, seed=3), denoiser.unet, denoiser.scheduler
    table = loss_table(replace(denoiser, batch_size=7), images, grid)
    assert table.shape == (5, 2, 2, 3)
    signal = scheduler.alphas_cumprod.double()
    for i, f, c, s in [(0, 0, 0, 0), (2, 1, 1, 2), (4, 0, 1, 1)]:
        t = TIMESTEPS[s]
        eps = normal((4, 8, 8), 3, "loss", IDS[i], c, t)
        a, b = signal[t].sqrt(), (1 - signal[t]).sqrt()
        x0 = images.latents[i, f].double()
        wanted = eps if scheduler.config.prediction_type == "epsilon" else a * eps - b * x0
        noisy = (a * x0 + b * eps)[None].float()
        prediction = unet(noisy, t, encoder_hidden_states=images.texts[i, c][None]).sample[0]
        expected = ((prediction - wanted) ** 2).mean().item()
        assert table[i, f, c, s] == pytest.approx(expected, rel=1e-4)
    few = loss_table(replace(denoiser, batch_size=2), images[[3, 1]], grid)
    torch.testing.assert_close(few, table[[3, 1]], rtol=1e-5, atol=1e-6)


def test_timesteps_and_finiteness_are_checked(denoiser, images) -> None:
    for wrong in ([], [1000], [-1, 5]):
        with pytest.raises(ValueError, match="expected some within 0..999"):
            check_timesteps(denoiser.scheduler, wrong)
        with pytest.raises(ValueError, match="expected some within 0..999"):
            loss_table(denoiser, images, Grid(wrong))
    broken = replace(images, latents=images.latents * torch.nan)
    with pytest.raises(FloatingPointError, match="losses: .* not finite"):
        loss_table(denoiser, broken, Grid([5]))
    other = replace(denoiser, scheduler=DDIMScheduler(prediction_type="sample"))
    with pytest.raises(ValueError, match="prediction_type is 'sample'"):
        loss_table(other, images, Grid([5]))


SCHEDULES = [
    {"beta_schedule": "squaredcos_cap_v2"},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_loss_is_the_training_loss_of_diffusers(unet, images, kind: str, schedule: dict) -> None:
    """As its text-to-image training script has it: a DDPM scheduler, and the mean squared error of
    its target."""
    theirs = DDPMScheduler(prediction_type=kind, **schedule)
    ours = DDIMScheduler.from_config(theirs.config)
    x, text = images.latents[:4, 0], images.texts[:4, 0]
    eps, t = normals((4, 8, 8), [("e", i) for i in range(4)]), torch.tensor([0, 250, 600, 999])
    wanted = eps if kind == "epsilon" else theirs.get_velocity(x, eps, t)
    prediction = unet(theirs.add_noise(x, eps, t), t, text).sample
    loss = torch.nn.functional.mse_loss(prediction.float(), wanted.float(), reduction="mean")
    torch.testing.assert_close(denoising_loss(unet, ours, x, eps, t, text).mean(), loss)
