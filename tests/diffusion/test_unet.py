"""The U-Net: selections of weights, released weights, precisions."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.training_utils import EMAModel
from helpers import SMALL, TIMESTEPS, UNET, save_tensors, tiny_unet

from abu.core.fisher import fisher_diagonal
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid
from abu.diffusion.losses import loss_table
from abu.diffusion.noise import normals
from abu.diffusion.unet import load_weights, select_weights, speed_up

CONFIG = UNET | {"cross_attention_dim": 128}


def test_selections_name_weights(unet) -> None:
    kv = select_weights(unet, "cross-attn-kv")
    assert kv and all("attn2" in name and ("to_k" in name or "to_v" in name) for name in kv)
    assert [name for name, p in unet.named_parameters() if p.requires_grad] == kv
    sizes = [len(select_weights(unet, s)) for s in ("cross-attn-kv", "cross-attn", "attn", "all")]
    assert sizes == sorted(set(sizes))
    with pytest.raises(ValueError, match="weight selection is 'kv'"):
        select_weights(unet, "kv")
    with pytest.raises(ValueError, match="matches no parameter"):
        select_weights(torch.nn.Linear(2, 2), "attn")


@pytest.mark.parametrize("name", ["model.bin", "model.safetensors"])
def test_released_weights_are_the_model_that_was_saved(tmp_path, name: str) -> None:
    theirs = tiny_unet()
    ours = load_weights(save_tensors(tmp_path / name, theirs.state_dict()), CONFIG)
    assert ours.config.cross_attention_dim == 128 and not ours.training
    assert not any(p.requires_grad for p in ours.parameters())
    x, text = normals((16, 8, 8), [("x", 0)]), normals((24, 128), [("text", 0)])
    assert torch.equal(ours(x, 500, text).sample, theirs(x, 500, text).sample)


def prefixed(start: str, state: dict) -> dict:
    return {start + name: value for name, value in state.items()}


def averages(unet: UNet2DConditionModel) -> dict:
    return EMAModel(unet.parameters(), decay=0.9).state_dict()


SCRIPTS = {  # what is left by training scripts
    "parallel": lambda unet: prefixed("module.", unet.state_dict()),
    "compiled": lambda unet: prefixed("_orig_mod.", unet.state_dict()),
    "compiled and parallel": lambda unet: prefixed("module._orig_mod.", unet.state_dict()),
    "nested": lambda unet: {"state_dict": prefixed("unet.", unet.state_dict()), "epoch": 3},
    "with its optimizer": lambda unet: {
        "model": unet.state_dict(),
        "optimizer": torch.optim.AdamW(unet.parameters()).state_dict(),
        "step": 7,
    },
    "averages": averages,
    "wrapped averages": lambda unet: {"ema": averages(unet), "step": 7},
    "halves": lambda unet: {name: value.half() for name, value in unet.state_dict().items()},
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_state_dicts_of_training_scripts_are_read(tmp_path, script: str) -> None:
    theirs = tiny_unet()
    expected = (theirs.half().float() if script == "halves" else theirs).state_dict()
    path = save_tensors(tmp_path / "model.pt", SCRIPTS[script](theirs))
    found = load_weights(path, CONFIG).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert {value.dtype for value in found.values()} == {torch.float32}


def test_state_dicts_that_could_mean_several_models_are_refused(tmp_path) -> None:
    theirs = tiny_unet()
    state, path = theirs.state_dict(), tmp_path / "model.pt"
    several = r"model.pt has several state dicts, \['model', 'ema'\]; expected one"
    whole = prefixed("unet.", state) | {"vae.decoder.conv_in.bias": torch.zeros(1)}
    unknown = rf"has {len(whole)} entries that the U-Net of train.unet lacks: \['unet.conv_in"
    for content, message in (
        ({"model": state, "ema": {name: value * 0 for name, value in state.items()}}, several),
        ({"model": state, "ema": averages(theirs)}, several),
        (whole, unknown),
        (prefixed("model.diffusion_model.", state), r"lacks: \['diffusion_model.conv_in"),
        ({"epoch": 3}, r"lacks: \['epoch'\]"),
        ({}, r"lacks \d+ of \d+ weights"),
    ):
        with pytest.raises(ValueError, match=message):
            load_weights(save_tensors(path, content), CONFIG)
    with pytest.raises(ValueError, match="train.unet has addition_embed_type: 'text'; expected"):
        load_weights(save_tensors(path, state), CONFIG | {"addition_embed_type": "text"})


def test_weights_of_another_model_are_refused(tmp_path) -> None:
    saved = tiny_unet().state_dict()
    first, n, path = next(iter(saved)), len(saved), tmp_path / "model.bin"
    unknown = "has 1 entries that the U-Net of train.unet lacks: .'conv_new.weight'."
    others = {name: value for name, value in saved.items() if name != first}
    for content, message in (
        (others, rf"lacks 1 of {n} weights: \['{first}'\]"),
        (saved | {"conv_new.weight": torch.zeros(1)}, unknown),
        (saved | {first: torch.zeros(2)}, rf"{first} has the shape \(2,\); expected"),
        (saved | {first: {"nested": torch.zeros(2)}}, f"{first} has the shape dict; expected"),
        (list(others.values()), f"holds {n - 1}; expected {n} tensors"),
    ):
        with pytest.raises(ValueError, match=message):
            load_weights(save_tensors(path, content), CONFIG)
    broken = saved[first].clone()
    broken.flatten()[0] = torch.nan
    with pytest.raises(FloatingPointError, match=f"{first}: 1 of .* values are not finite"):
        load_weights(save_tensors(path, saved | {first: broken}), CONFIG)


@pytest.mark.parametrize(
    "precision, tolerance",
    [("float32", 1e-5), ("tf32", 1e-5), ("bf16", 0.05)],  # no tf32 on the CPU
)
def test_precisions_agree(scheduler, images, precision: str, tolerance: float) -> None:
    def denoiser(**speed) -> Denoiser:
        torch.manual_seed(0)
        plain = UNet2DConditionModel(**SMALL).eval().requires_grad_(False)
        return Denoiser(plain, scheduler, select_weights(plain, "cross-attn-kv"), speed=speed)

    speed = {"precision": precision, "channels_last": True}
    exact, fast, grid = denoiser(), denoiser(**speed), Grid(TIMESTEPS)
    model = fast.model()
    assert speed_up(model, **speed) is model
    losses = loss_table(exact, images, grid)
    torch.testing.assert_close(loss_table(fast, images, grid), losses, rtol=tolerance, atol=0)
    total = lambda one: float(sum(f.sum() for f in fisher_diagonal(one, images, 1).values()))
    assert total(fast) == pytest.approx(total(exact), rel=max(4 * tolerance, 1e-4))
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        speed_up(model, "fp8")
