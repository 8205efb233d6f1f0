"""The frozen parts of a latent diffusion model: tokenizer, text encoder, autoencoder, scheduler."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from transformers import CLIPTextModel, CLIPTokenizer


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
        return self.tokenizer(
            captions, max_length=self.tokenizer.model_max_length, **options
        ).input_ids

    @torch.no_grad()
    def states(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token states, float32 [B, L, D], of token ids [B, L]."""
        return (
            self.text_encoder(tokens.to(self.text_encoder.device)).last_hidden_state.float().cpu()
        )

    def texts(self, captions: list[str]) -> torch.Tensor:
        """Token states, float32 [B, L, D], of captions."""
        return self.states(self.tokens(captions))

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scaled latents, float32 [B, c, h, w], of pixels in [-1, 1]: the posterior's mode, so that
        an image has one."""
        return (
            self.vae.encode(pixels.to(self.vae.device)).latent_dist.mode().cpu()
            * self.vae.config.scaling_factor
        )

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels, float32 [B, 3, H, W] in [0, 1], of scaled latents."""
        pixels = self.vae.decode(
            latents.float().to(self.vae.device) / self.vae.config.scaling_factor
        ).sample
        return (pixels.cpu() / 2 + 0.5).clamp(0, 1)


def load_components(
    source: str | Path, device: torch.device | str = "cpu", schedule: dict | None = None
) -> Components:
    """Components from a folder or hub name in diffusers' format (``tokenizer``, ``text_encoder``,
    ``vae``, ``scheduler``), with changes of the scheduler's config. Raises KeyError for a change
    of what the config does not have.
    """
    scheduler = DDIMScheduler.from_pretrained(source, subfolder="scheduler")
    if unknown := (schedule or {}).keys() - scheduler.config.keys():
        raise KeyError(
            f"the scheduler has no {sorted(unknown)}; expected some of {sorted(scheduler.config)}"
        )
    text_encoder = (
        CLIPTextModel.from_pretrained(source, subfolder="text_encoder").requires_grad_(False).eval()
    )
    vae = AutoencoderKL.from_pretrained(source, subfolder="vae").requires_grad_(False).eval()
    return Components(
        CLIPTokenizer.from_pretrained(source, subfolder="tokenizer"),
        text_encoder.to(device),
        vae.to(device),
        DDIMScheduler.from_config({**scheduler.config, **(schedule or {})})
        if schedule
        else scheduler,
    )
