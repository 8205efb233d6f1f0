"""Frozen components, the U-Net, the choice of attributed weights, the device."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from abu.attention import share_text

SELECTIONS = {  # which parameters are attributed, by their names
    "cross-attn-kv": lambda name: "attn2.to_k" in name or "attn2.to_v" in name,
    "cross-attn": lambda name: "attn2." in name,
    "attn": lambda name: "attn1." in name or "attn2." in name,
    "all": lambda name: True,
}


PRECISIONS = ("float32", "tf32", "bf16")


@dataclass(frozen=True)
class Components:
    """The frozen parts of a latent diffusion model."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    scheduler: DDIMScheduler

    def tokens(self, captions: list[str]) -> torch.Tensor:
        """Token ids, int64 [B, L], padded and cut to the tokenizer's length."""
        options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return self.tokenizer(captions, max_length=self.tokenizer.model_max_length, **options).input_ids

    @torch.no_grad()
    def states(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token states, float32 [B, L, D], of token ids [B, L]."""
        return self.text_encoder(tokens.to(self.text_encoder.device)).last_hidden_state.float().cpu()

    def texts(self, captions: list[str]) -> torch.Tensor:
        """Token states, float32 [B, L, D], of captions."""
        return self.states(self.tokens(captions))

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scaled latents, float32 [B, c, h, w], of pixels in [-1, 1]: the posterior's mode, so that an image has one."""
        return self.vae.encode(pixels.to(self.vae.device)).latent_dist.mode().cpu() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels, float32 [B, 3, H, W] in [0, 1], of scaled latents."""
        pixels = self.vae.decode(latents.float().to(self.vae.device) / self.vae.config.scaling_factor).sample
        return (pixels.cpu() / 2 + 0.5).clamp(0, 1)


def load_components(source: str | Path, device: torch.device | str = "cpu", schedule: dict | None = None) -> Components:
    """Components from a folder or hub name in diffusers' format (``tokenizer``, ``text_encoder``, ``vae``, ``scheduler``), with
    changes of the scheduler's config. Raises KeyError for a change of what the config does not have.
    """
    scheduler = DDIMScheduler.from_pretrained(source, subfolder="scheduler")
    if unknown := (schedule or {}).keys() - scheduler.config.keys():
        raise KeyError(f"the scheduler has no {sorted(unknown)}; expected some of {sorted(scheduler.config)}")
    text_encoder = CLIPTextModel.from_pretrained(source, subfolder="text_encoder").requires_grad_(False).eval()
    vae = AutoencoderKL.from_pretrained(source, subfolder="vae").requires_grad_(False).eval()
    return Components(
        CLIPTokenizer.from_pretrained(source, subfolder="tokenizer"),
        text_encoder.to(device),
        vae.to(device),
        DDIMScheduler.from_config({**scheduler.config, **(schedule or {})}) if schedule else scheduler,
    )


def load_unet(folder: str | Path, device: torch.device | str = "cpu") -> UNet2DConditionModel:
    """Trained U-Net, frozen, in evaluation mode."""
    return UNet2DConditionModel.from_pretrained(folder).to(device).requires_grad_(False).eval()


def load_published(source: str | Path, latent: tuple[int, ...], text: int, device: torch.device | str = "cpu") -> UNet2DConditionModel:
    """Frozen U-Net of a whole model in diffusers' format, a folder or hub name.

    Raises ValueError unless it takes latents of that shape [c, h, w] and token states of that width.
    """
    unet = UNet2DConditionModel.from_pretrained(source, subfolder="unet").to(device).requires_grad_(False).eval()
    found = (unet.config.in_channels, unet.config.cross_attention_dim)
    if found != (latent[0], text):
        raise ValueError(f"the U-Net of {source} takes (latent channels, text width) {found}; prepared were {(latent[0], text)}")
    return unet


def speed_up(unet: nn.Module, precision: str = "float32", compile: bool = False, channels_last: bool = False) -> nn.Module:
    """The U-Net as asked for, changed in place, once: captions may be shared by rows (``abu.attention``); ``precision`` of its
    forward and backward passes: ``float32``, ``tf32`` (matrix products and convolutions of NVIDIA's tensor cores), ``bf16``
    (autocast, weights stay float32); ``compile``: by ``torch.compile``; ``channels_last``: memory layout of convolutions.

    Raises ValueError for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {PRECISIONS}")
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    asked = (precision, compile, channels_last)
    if getattr(unet, "sped_up", None) == asked:
        return unet
    share_text(unet)
    if channels_last:
        unet.to(memory_format=torch.channels_last)
    if precision == "bf16":
        unet.forward = torch.autocast(unet.device.type, torch.bfloat16)(type(unet).forward.__get__(unet))
    if compile:
        unet.compile()
    unet.sped_up = asked
    return unet


def select_weights(unet: nn.Module, selection: str) -> list[str]:
    """Names of the attributed parameters; sets exactly them to require a gradient.

    Raises ValueError for an unknown selection or one that matches nothing.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"weight selection is {selection!r}; expected one of {sorted(SELECTIONS)}")
    names = [name for name, _ in unet.named_parameters() if SELECTIONS[selection](name)]
    if not names:
        raise ValueError(f"weight selection {selection!r} matches no parameter of {type(unet).__name__}")
    unet.requires_grad_(False)
    for name in names:
        unet.get_parameter(name).requires_grad_(True)
    return names


def use_device(device: str, threads: int = 0) -> torch.device:
    """The device of a run, as ``find_device``; ``threads`` limits the CPU (0: all cores)."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    return find_device(device)


def find_device(device: str) -> torch.device:
    """The device called ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` on this machine.

    Raises RuntimeError for a device that is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.zeros((), device=device).device
        if found.type == "cuda":
            torch.cuda.set_device(found)  # accelerate takes the current one
        return found
    except (AssertionError, RuntimeError) as error:
        raise RuntimeError(f"device {device!r} is not there: {str(error).splitlines()[0]}") from error
