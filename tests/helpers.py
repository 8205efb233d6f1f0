"""Small models, pictures and studies that more than one test builds."""

from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from ruamel.yaml import YAML
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from abu import ROOT
from abu.diffusion.noise import stream

UNET = dict(
    sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=4,
)  # fmt: skip
SCHEDULERS = {1: PNDMScheduler(skip_prk_steps=True, steps_offset=1), 2: EulerDiscreteScheduler(prediction_type="v_prediction", steps_offset=1)}
VERSIONS = {1: {}, 2: {"use_linear_projection": True, "attention_head_dim": [2, 4]}}


def tiny_unet(width: int = 128, **changes) -> UNet2DConditionModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DConditionModel(**(UNET | changes), cross_attention_dim=width).eval().requires_grad_(False)


def stable_diffusion(folder: Path, version: int = 1) -> UNet2DConditionModel:
    """A tiny but complete model in the format of Stable Diffusion v1.4 or v2: scaled-linear betas, scaled latents; noise prediction, or
    velocity, linear projections and a head count for each level."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = CLIPTokenizer.from_pretrained(ROOT / "data/components/tokenizer")
        text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=24, eos_token_id=tokenizer.eos_token_id))  # fmt: skip
        vae = AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 8), latent_channels=4, norm_num_groups=4, sample_size=32, scaling_factor=0.18215)  # fmt: skip
    unet = tiny_unet(32, sample_size=8, **VERSIONS[version])
    scheduler = SCHEDULERS[version]
    scheduler.register_to_config(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False)
    StableDiffusionPipeline(vae, text, tokenizer, unet, scheduler, None, None, requires_safety_checker=False).save_pretrained(folder)
    return unet


def picture(path: Path, *key, size: int = 40, mode: str = "RGB") -> None:
    """A picture of smooth random colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = stream("picture", *key).integers(0, 255, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((size, size + 8)).convert(mode).save(path)


def write_params(root: Path, source: Path, changes: dict[str, dict]) -> dict:
    """Parameters of ``source`` in ``root/params.yaml``, some values of their sections changed."""
    yaml = YAML()
    params = yaml.load(source.read_text())
    for section, values in changes.items():
        params[section].update(values)
    with (root / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    return params
