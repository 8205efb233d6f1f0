"""Models in transformers' format, from a folder: embeddings do not depend on the batch, and a DINO joins by its name."""

import numpy as np
import torch
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

from abu import ROOT
from abu.baselines.embed import clip_images, clip_texts, dino_images
from abu.data.captions import load_captions
from abu.data.pictures import read_image

CLIP = ROOT / "data/components/clip"


def pixels(count: int) -> torch.Tensor:
    records = load_captions(ROOT / "data/captions.json", ROOT / "data/images")[:count]
    return torch.stack([torch.from_numpy(read_image(r.path, 64)) for r in records]) / 2 + 0.5


def test_clip_knows_its_captions() -> None:
    records = load_captions(ROOT / "data/captions.json", ROOT / "data/images", {"concept": ["skull", "red heart", "alien", "ghost"]})
    images = torch.stack([torch.from_numpy(read_image(r.path, 64)) for r in records]) / 2 + 0.5
    similarity = torch.nn.functional.normalize(clip_images(CLIP, images), dim=1) @ torch.nn.functional.normalize(
        clip_texts(CLIP, [r.captions[0] for r in records]), dim=1
    ).T
    own = np.array([[a.fields["concept"] == b.fields["concept"] for b in records] for a in records])
    assert similarity.numpy()[own].mean() > similarity.numpy()[~own].mean() + 0.2


def test_embeddings_do_not_depend_on_the_batch() -> None:
    images = pixels(70)  # more than one batch
    assert torch.allclose(clip_images(CLIP, images)[66:67], clip_images(CLIP, images[66:67]), atol=1e-5)


def test_a_dino_folder_is_all_it_takes(tmp_path) -> None:
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(tmp_path)
    size = {"height": 28, "width": 28}
    BitImageProcessor(do_resize=True, size=size, do_center_crop=False).save_pretrained(tmp_path)
    found = dino_images(tmp_path, pixels(3))
    assert found.shape == (3, 16) and torch.allclose(found[1:2], dino_images(tmp_path, pixels(3)[1:2]), atol=1e-5)
