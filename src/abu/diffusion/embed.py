"""Embeddings by CLIP and DINO models in transformers' format."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from abu.data.rows import Parts

BATCH = 64
PARTS = {
    "clip": (CLIPModel, CLIPImageProcessor, CLIPTokenizer),
    "dino": (AutoModel, AutoImageProcessor),
}


def copy_model(kind: str, source: str | Path, folder: Path) -> None:
    """Save a model of ``PARTS`` and what prepares its inputs, from a folder or by hub name."""
    for cls in PARTS[kind]:
        cls.from_pretrained(source).save_pretrained(folder)


def there(folder: Path) -> Path:
    """The folder of a model. Raises FileNotFoundError where there is none."""
    if not folder.is_dir():
        hint = f"components.{folder.name} in params.yaml names a folder or hub name"
        raise FileNotFoundError(f"no model in {folder}: {hint}")
    return folder


@torch.no_grad()
def in_batches(items: list[str] | Tensor | Parts, embed: Callable) -> Tensor:
    parts = items if isinstance(items, Parts) else [items]
    places = [(part, start) for part in parts for start in range(0, len(part), BATCH)]
    return torch.cat([embed(part[start : start + BATCH]).cpu() for part, start in places])


def look(pixels: Tensor | Parts, processor, embed: Callable, device) -> Tensor:
    """What ``embed`` makes of pixels [B, 3, H, W] in [0, 1] as 8-bit pictures."""

    def embedded(part: Tensor) -> Tensor:
        pictures = (part.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        return embed(processor(list(pictures), return_tensors="pt").pixel_values.to(device))

    return in_batches(pixels, embedded)


def clip_images(folder: Path, pixels: Tensor | Parts, device="cpu") -> Tensor:
    """CLIP's image embeddings, float32 [B, D], of pixels [B, 3, H, W] in [0, 1]."""
    model = CLIPModel.from_pretrained(there(folder)).float().eval().to(device)
    embed = lambda x: model.get_image_features(pixel_values=x).pooler_output
    return look(pixels, CLIPImageProcessor.from_pretrained(folder), embed, device)


def clip_texts(folder: Path, captions: list[str], device="cpu") -> Tensor:
    """CLIP's text embeddings, float32 [B, D]; captions are cut to the tokenizer's length, at most
    the model's."""
    model = CLIPModel.from_pretrained(there(folder)).float().eval().to(device)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    most = min(tokenizer.model_max_length, model.config.text_config.max_position_embeddings)
    tokens = lambda part: tokenizer(part, max_length=most, **options)
    embed = lambda part: model.get_text_features(input_ids=tokens(part).input_ids.to(device))
    return in_batches(captions, lambda part: embed(part).pooler_output)


def dino_images(folder: Path, pixels: Tensor | Parts, device="cpu") -> Tensor:
    """Class token of a vision transformer such as DINO, float32 [B, D], of pixels [B, 3, H, W] in
    [0, 1]."""
    model = AutoModel.from_pretrained(there(folder)).float().eval().to(device)
    embed = lambda x: model(pixel_values=x).last_hidden_state[:, 0]
    return look(pixels, AutoImageProcessor.from_pretrained(folder), embed, device)
