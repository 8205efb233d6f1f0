"""What a model predicts is told from its losses."""

import pytest
import torch
from diffusers import DDIMScheduler
from helpers import UNET

from abu.data.images import Images
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid
from abu.diffusion.kinds import check_kind, losses_by_kind
from abu.diffusion.losses import loss_table
from abu.diffusion.train import Recipe, train

KINDS = ["epsilon", "v_prediction"]


def as_kind(scheduler, kind: str) -> DDIMScheduler:
    return DDIMScheduler.from_config(scheduler.config, prediction_type=kind)


@pytest.fixture(scope="module", params=KINDS)
def trained(request, prepared, components):
    """A model that has learned a little of one kind, and images."""
    config = UNET | {"cross_attention_dim": 128, "block_out_channels": (16, 16)}
    recipe = Recipe(config, steps=150, batch_size=8, lr=4e-3, warmup=5, ema_decay=0.9)
    scheduler = as_kind(components.scheduler, request.param)
    unet, *_ = train(prepared, scheduler, recipe, prepared.ids, progress="")
    return request.param, unet, Images(prepared.ids, prepared.latents, prepared.texts)


@pytest.mark.parametrize("declared", KINDS)
def test_a_model_is_taken_for_what_it_is(trained, components, declared: str) -> None:
    kind, unet, images = trained
    denoiser = Denoiser(unet, as_kind(components.scheduler, declared))
    losses = losses_by_kind(denoiser, images)
    assert min(losses, key=losses.get) == kind and losses[kind] < 0.9
    if declared == kind:
        assert check_kind("model", denoiser, images) is None
        return
    other = "epsilon" if kind == "v_prediction" else "v_prediction"
    message = rf"folder: losses are .*{kind} 0\.\d+.*; the scheduler says {other}, whose loss"
    with pytest.raises(ValueError, match=message):
        check_kind("folder", denoiser, images)


def test_losses_are_those_of_a_table(denoiser, images) -> None:
    times = [(2 * i + 1) * 1000 // 20 for i in range(10)]
    few = images[[0, 2, 4]]  # evenly spread
    table = loss_table(denoiser, few, Grid(times, captions=1, flips=False))
    found = losses_by_kind(denoiser, images)
    declared = denoiser.scheduler.config.prediction_type
    assert found[declared] == pytest.approx(table.mean().item(), rel=1e-5)


def test_a_model_that_has_learned_nothing_is_refused(denoiser, images) -> None:
    declared = denoiser.scheduler.config.prediction_type
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=f"says {declared}, whose loss is expected below 1"):
        check_kind("folder", denoiser, images)
