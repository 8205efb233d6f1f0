"""The frozen parts of a latent diffusion model: tokenizer, text encoder, autoencoder, scheduler."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from abu.diffusion.pretrained import check_config, load_part, place, refuse
from abu.diffusion.scheduler import load_scheduler

TEXT = {  # of the text encoder's config: the last hidden states of all tokens are taken
    "model_type": ("clip_text_model",),
    "architectures": (None, ["CLIPTextModel"]),
    "use_attention_mask": (None, False),
    "quantization_config": (None,),
}
WORDS = {  # of the tokenizer's config
    "tokenizer_class": (None, "CLIPTokenizer", "CLIPTokenizerFast"),
    "do_lower_case": (None, True),
}
LATENTS = "latents.json"  # beside the parts: how many places a side are packed
COLOURS = {"in_channels": (3,), "out_channels": (3,)}


@dataclass(frozen=True)
class Components:
    """The frozen parts of a latent diffusion model."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    scheduler: DDIMScheduler
    pack: int = (
        1  # places along a side that become channels: [c, h, w] -> [c pack^2, h/pack, w/pack]
    )

    @property
    def factor(self) -> int:
        """Pixels along a side of a place of the latents."""
        return self.pack * 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def length(self) -> int:
        """Tokens of a caption: as the tokenizer says, at most the text encoder's positions."""
        positions = self.text_encoder.config.max_position_embeddings
        return int(min(self.tokenizer.model_max_length, positions))

    def tokens(self, captions: list[str]) -> torch.Tensor:
        """Token ids, int64 [B, L], padded and cut to ``length``."""
        options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return self.tokenizer(captions, max_length=self.length, **options).input_ids

    @torch.no_grad()
    def states(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token states, float32 [B, L, D], of token ids [B, L]."""
        return (
            self.text_encoder(tokens.to(self.text_encoder.device)).last_hidden_state.float().cpu()
        )

    def texts(self, captions: list[str]) -> torch.Tensor:
        """Token states, float32 [B, L, D], of captions."""
        return self.states(self.tokens(captions))

    def scale(self, device) -> tuple[torch.Tensor | None, torch.Tensor | float]:
        """Shift and factor of the autoencoder's latents z: scaled ones are ``(z - shift) *
        factor``, by one number or by channel, [c, 1, 1]."""
        config = self.vae.config
        by_channel = lambda values: torch.tensor(values, device=device).float().reshape(-1, 1, 1)
        shift, factor = config.get("shift_factor"), config.scaling_factor
        if config.get("latents_mean") is not None:
            shift = config.latents_mean
        if config.get("latents_std") is not None:
            factor = factor / by_channel(config.latents_std)
        return None if shift is None else by_channel(shift), factor

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scaled and packed latents, float32 [B, c, h, w], of pixels in [-1, 1]: the posterior's
        mode, so that an image has one."""
        shift, factor = self.scale("cpu")
        latents = self.vae.encode(pixels.to(self.vae.device)).latent_dist.mode().cpu()
        latents = (latents if shift is None else latents - shift) * factor
        return pixel_unshuffle(latents, self.pack)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels, float32 [B, 3, H, W] in [0, 1], of scaled and packed latents."""
        shift, factor = self.scale(self.vae.device)
        latents = pixel_shuffle(latents.float().to(self.vae.device), self.pack) / factor
        pixels = self.vae.decode(latents if shift is None else latents + shift).sample
        return (pixels.cpu() / 2 + 0.5).clamp(0, 1)


def packing(source: str | Path) -> int:
    """Places along a side that become channels, as ``latents.json`` of a folder says; 1 without."""
    file = Path(source, LATENTS)
    return json.loads(file.read_text())["pack"] if file.is_file() else 1


def load_components(
    source: str | Path, device: torch.device | str = "cpu", schedule: dict | None = None
) -> Components:
    """Components from a folder or hub name in diffusers' format (``tokenizer``, ``text_encoder``,
    ``vae``, ``scheduler``; ``latents.json`` beside them may pack latents), with changes of the
    scheduler's config; computed in float32 whatever they are stored in.

    Raises ValueError for parts of other classes, and for what a config says that would change a
    number and is not done here; OSError, KeyError as ``load_part``, ``load_scheduler``.
    """
    scheduler = load_scheduler(source, schedule)
    text, _ = CLIPTextConfig.get_config_dict(source, subfolder="text_encoder")
    words = get_tokenizer_config(source, subfolder="tokenizer")
    vae = dict(AutoencoderKL.load_config(source, subfolder="vae"))
    refuse(place(source, "text_encoder"), text, TEXT)
    refuse(place(source, "tokenizer"), words, WORDS)
    check_config(AutoencoderKL, vae, place(source, "vae"))
    refuse(place(source, "vae"), vae, COLOURS)
    if vae.get("shift_factor") is not None and vae.get("latents_mean") is not None:
        raise ValueError(
            f"{place(source, 'vae')} has a shift_factor and a latents_mean; expected one"
        )
    tokenizer = CLIPTokenizer.from_pretrained(source, subfolder="tokenizer")
    encoder = load_part(CLIPTextModel, source, "text_encoder", device)
    if len(tokenizer) > (vocab_size := encoder.config.vocab_size):
        raise ValueError(
            f"{place(source, 'tokenizer')} has {len(tokenizer)} tokens; its text encoder knows "
            f"{vocab_size}"
        )
    autoencoder = load_part(AutoencoderKL, source, "vae", device)
    return Components(tokenizer, encoder, autoencoder, scheduler, packing(source))
