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
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from abu import ROOT
from abu.diffusion.noise import stream

IDS, TIMESTEPS = [70, 10, 50, 20, 90], [100, 600, 999]
SMALL = dict(  # U-Net of 8x8 latents with 4 channels, texts of width 8
    sample_size=8,
    in_channels=4,
    out_channels=4,
    cross_attention_dim=8,
    block_out_channels=(8, 8),
    norm_num_groups=4,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    layers_per_block=1,
    attention_head_dim=4,
)
UNET = dict(  # U-Net of the embedded components' packed latents
    sample_size=8,
    in_channels=16,
    out_channels=16,
    block_out_channels=(8, 8),
    norm_num_groups=4,
    layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    attention_head_dim=4,
)
PLAIN = {"in_channels": 4, "out_channels": 4}  # latents that are not packed
SCHEDULERS = {
    1: PNDMScheduler(skip_prk_steps=True, steps_offset=1),
    2: EulerDiscreteScheduler(prediction_type="v_prediction", steps_offset=1),
}
VERSIONS = {1: {}, 2: {"use_linear_projection": True, "attention_head_dim": [2, 4]}}


def tiny_unet(width: int = 128, **changes) -> UNet2DConditionModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (
            UNet2DConditionModel(**(UNET | changes), cross_attention_dim=width)
            .eval()
            .requires_grad_(False)
        )


def stable_diffusion(folder: Path, version: int = 1) -> UNet2DConditionModel:
    """A tiny but complete model in the format of Stable Diffusion v1.4 or v2: scaled-linear betas,
    scaled latents; noise prediction, or velocity, linear projections and a head count for each
    level."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = CLIPTokenizer.from_pretrained(ROOT / "data/components/tokenizer")
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=24,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 8),
            latent_channels=4,
            norm_num_groups=4,
            sample_size=32,
            scaling_factor=0.18215,
        )
    unet = tiny_unet(32, **PLAIN, sample_size=8, **VERSIONS[version])
    scheduler = SCHEDULERS[version]
    scheduler.register_to_config(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
    )
    StableDiffusionPipeline(
        vae, text, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    ).save_pretrained(folder)
    return unet


def picture(path: Path, *key, size: int = 40, mode: str = "RGB") -> None:
    """A picture of smooth random colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = stream("picture", *key).integers(0, 255, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((size, size + 8)).convert(mode).save(path)


def coco_content() -> dict:
    """Two images of a captions file, one of them with two captions."""
    kinds = {3: "a", 1: "b"}
    images = [{"id": id, "file_name": f"{id}.png", "kind": kind} for id, kind in kinds.items()]
    texts = [{"id": i, "image_id": id, "caption": f"c{i}"} for i, id in enumerate((1, 3, 1))]
    return {"images": images, "annotations": texts}


def save_tensors(path: Path, tensors: dict | list) -> Path:
    """A file of tensors, by its suffix of safetensors or of torch."""
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path
