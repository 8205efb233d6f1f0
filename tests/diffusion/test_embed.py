"""Models in transformers' format, from a folder: embeddings do not depend on the batch, and a DINO
joins by its name."""

import json

import numpy as np
import torch
from helpers import ROOT
from torch.nn.functional import normalize
from transformers import (
    BitImageProcessor,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
)

from abu.data.captions import Captioned, load_captions
from abu.data.pictures import read_image
from abu.diffusion.embed import clip_images, clip_texts, dino_images

CLIP = ROOT / "data/components/clip"


def records(keep: dict | None = None) -> list[Captioned]:
    return load_captions(ROOT / "data/captions.json", ROOT / "data/images", keep)


def pixels(records: list[Captioned]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(read_image(r.path, 64)) for r in records]) / 2 + 0.5


def test_clip_knows_its_captions() -> None:
    some = records({"concept": ["skull", "red heart", "alien", "ghost"]})
    texts = clip_texts(CLIP, [r.captions[0] for r in some])
    similarity = normalize(clip_images(CLIP, pixels(some))) @ normalize(texts).T
    concepts = np.array([r.fields["concept"] for r in some])
    own = concepts[:, None] == concepts
    assert similarity.numpy()[own].mean() > similarity.numpy()[~own].mean() + 0.2


def test_a_clip_in_half_precision_whose_tokenizer_has_no_length(tmp_path) -> None:
    model, tokenizer = CLIPModel.from_pretrained(CLIP), CLIPTokenizer.from_pretrained(CLIP)
    expected, images = clip_texts(CLIP, ["skull", "cat " * 99]), pixels(records()[:2])
    for part in (model.half(), tokenizer, CLIPImageProcessor.from_pretrained(CLIP)):
        part.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del config["model_max_length"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert CLIPTokenizer.from_pretrained(tmp_path).model_max_length > 1e29
    found = clip_texts(tmp_path, ["skull", "cat " * 99])
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)
    assert clip_images(tmp_path, images).dtype == torch.float32


def test_embeddings_do_not_depend_on_the_batch() -> None:
    images = pixels(records()[:70])  # more than one batch
    alone = clip_images(CLIP, images[66:67])
    assert torch.allclose(clip_images(CLIP, images)[66:67], alone, atol=1e-5)


def test_a_dino_folder_is_all_it_takes(tmp_path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**sizes, image_size=28, patch_size=14)).save_pretrained(tmp_path)
    size, images = {"height": 28, "width": 28}, pixels(records()[:3])
    processor = BitImageProcessor(do_resize=True, size=size, do_center_crop=False)
    processor.save_pretrained(tmp_path)
    found = dino_images(tmp_path, images)
    assert found.shape == (3, 16)
    assert torch.allclose(found[1:2], dino_images(tmp_path, images[1:2]), atol=1e-5)
