"""Embeddings by CLIP and DINO models in transformers' format, from a folder or by hub name."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from abu.data.rows import Parts

BATCH = 64


def batches(items, embed) -> Tensor:
    whole = items if isinstance(items, Parts) else [items]
    return torch.cat(
        [
            embed(part[start : start + BATCH])
            for part in whole
            for start in range(0, len(part), BATCH)
        ]
    )


def as_images(pixels: Tensor) -> list[np.ndarray]:
    """Pixels [B, 3, H, W] in [0, 1] as 8-bit images [H, W, 3]."""
    return list(
        (torch.as_tensor(pixels).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    )


@torch.no_grad()
def clip_images(source: str | Path, pixels: Tensor | Parts, device="cpu") -> Tensor:
    """CLIP's image embeddings, float32 [B, D], of pixels [B, 3, H, W] in [0, 1]."""
    model, processor = (
        CLIPModel.from_pretrained(source).float().eval().to(device),
        CLIPImageProcessor.from_pretrained(source),
    )
    prepare = lambda part: processor(as_images(part), return_tensors="pt").pixel_values.to(device)
    return batches(
        pixels,
        lambda part: model.get_image_features(pixel_values=prepare(part)).pooler_output.cpu(),
    )


@torch.no_grad()
def clip_texts(source: str | Path, captions: list[str], device="cpu") -> Tensor:
    """CLIP's text embeddings, float32 [B, D]; captions are cut to the tokenizer's length,
    at most the model's."""
    model, tokenizer = (
        CLIPModel.from_pretrained(source).float().eval().to(device),
        CLIPTokenizer.from_pretrained(source),
    )
    options = {
        "padding": "max_length",
        "truncation": True,
        "max_length": min(
            tokenizer.model_max_length, model.config.text_config.max_position_embeddings
        ),
        "return_tensors": "pt",
    }
    prepare = lambda part: tokenizer(part, **options).input_ids.to(device)
    return batches(
        captions, lambda part: model.get_text_features(input_ids=prepare(part)).pooler_output.cpu()
    )


@torch.no_grad()
def dino_images(source: str | Path, pixels: Tensor | Parts, device="cpu") -> Tensor:
    """Class token of a vision transformer such as DINO, float32 [B, D], of pixels [B, 3, H, W] in
    [0, 1]."""
    model, processor = (
        AutoModel.from_pretrained(source).float().eval().to(device),
        AutoImageProcessor.from_pretrained(source),
    )
    prepare = lambda part: processor(as_images(part), return_tensors="pt").pixel_values.to(device)
    return batches(
        pixels, lambda part: model(pixel_values=prepare(part)).last_hidden_state[:, 0].cpu()
    )
