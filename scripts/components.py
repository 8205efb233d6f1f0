"""Provenance of the embedded components: ``python scripts/components.py [OUT]`` trains tokenizer,
autoencoder, and a CLIP with text and image tower on the embedded pictures and captions.

A real study loads published ones instead; these exist so that the package needs no model hub.
"""

import json
import math
import sys
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextModel, CLIPTokenizer

from abu import ROOT
from abu.data.captions import load_captions
from abu.data.pictures import read_image
from abu.data.progress import track
from abu.diffusion.components import LATENTS
from abu.diffusion.muon import Muon, matrices_and_rest
from abu.diffusion.train import learning_rate

LENGTH = 24  # tokens of a caption
LATENT_NOISE = 0.15  # standard deviation of the posterior, for latents of unit variance


def annealed(optimizer: torch.optim.Optimizer, steps: int):
    """Schedule of the learning rate: warm-up, then half a cosine to zero."""
    factor = partial(learning_rate, steps=steps, warmup=50)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train_tokenizer(captions: list[str], folder: Path) -> CLIPTokenizer:
    """CLIP byte-pair tokenizer fitted to ``captions``; padding repeats the end token, as CLIP's
    does."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=special,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
    )
    tokenizer.train_from_iterator(captions, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    clip = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=LENGTH
    )
    clip.save_pretrained(folder)
    return clip


def train_autoencoder(
    pixels: torch.Tensor, steps: int, seed: int = 0, batch: int = 8, lr: float = 2e-3
) -> AutoencoderKL:
    """Autoencoder with f = 4 and 4 latent channels, kept at zero mean and unit variance.

    ``pixels``: float32 [N, 3, 64, 64] in [-1, 1]. The decoder is trained on latents with noise of
    standard deviation ``LATENT_NOISE``, so that small errors of the diffusion model stay small in
    the picture. In equal time (157 s of one core) this shape, whose 2 x 2 places are then packed
    into channels, came back with an error of 0.038, one of f = 8 with 16 channels with 0.069; AdamW
    alone in batches of 32 (900 steps) with 0.066.
    """
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=pixels.shape[-1],
        scaling_factor=1.0,
    )
    matrices, rest = matrices_and_rest(vae)
    optimizers = [Muon(matrices), torch.optim.AdamW(rest, lr)]
    schedules = [annealed(each, steps) for each in optimizers]
    draw = torch.Generator().manual_seed(seed)
    for _ in track(range(steps), "autoencoder"):
        x = pixels[torch.randint(len(pixels), (batch,), generator=draw)]
        if torch.rand((), generator=draw) < 0.5:
            x = x.flip(-1)
        posterior = vae.encode(x).latent_dist
        z = posterior.mean + LATENT_NOISE * torch.randn(posterior.mean.shape, generator=draw)
        y = vae.decode(z).sample
        edges = F.l1_loss(y.diff(dim=-1), x.diff(dim=-1)) + F.l1_loss(
            y.diff(dim=-2), x.diff(dim=-2)
        )
        scale = (
            posterior.mean.mean((0, 2, 3)).square().mean()
            + (posterior.mean.std((0, 2, 3)) - 1).square().mean()
        )
        width = (posterior.logvar - 2 * math.log(LATENT_NOISE)).square().mean()
        loss = F.l1_loss(y, x) + F.mse_loss(y, x) + 0.5 * edges + 0.1 * scale + 0.01 * width
        vae.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        for each in (*optimizers, *schedules):
            each.step()
    return vae.eval()


def train_clip(
    pixels: torch.Tensor,
    captions: list[list[str]],
    tokenizer: CLIPTokenizer,
    steps: int,
    seed: int = 0,
    batch: int = 128,
) -> CLIPModel:
    """Small CLIP by the symmetric contrastive loss; token states have unit root mean square (its
    last layer norm).

    ``pixels``: float32 [N, 3, 64, 64] in [-1, 1]; ``captions[i]``: the captions of picture i.
    """
    torch.manual_seed(seed)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
    }
    text |= {"num_attention_heads": 4, "max_position_embeddings": LENGTH, "projection_dim": 64}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    vision = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    }
    vision |= {"image_size": pixels.shape[-1], "patch_size": 8, "projection_dim": 64}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))
    tokens = [
        tokenizer(c, padding="max_length", truncation=True, return_tensors="pt").input_ids
        for c in captions
    ]
    optimizer = torch.optim.AdamW(clip.parameters(), 1e-3, weight_decay=0.05)
    schedule = annealed(optimizer, steps)
    draw = torch.Generator().manual_seed(seed)
    for _ in track(range(steps), "clip"):
        index = torch.randperm(len(pixels), generator=draw)[:batch]
        choice = torch.randint(2**16, (len(index),), generator=draw)
        shift = torch.randint(-4, 5, (2,), generator=draw).tolist()
        ids = torch.stack(
            [tokens[i][c % len(tokens[i])] for i, c in zip(index.tolist(), choice.tolist())]
        )
        loss = clip(
            input_ids=ids, pixel_values=pixels[index].roll(shift, (-2, -1)), return_loss=True
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return clip.eval()


def separate(
    encoder: CLIPTextModel,
    captions: list[list[str]],
    tokenizer: CLIPTokenizer,
    steps: int,
    seed: int = 0,
) -> None:
    """Fine-tune a text encoder so that the token states of different captions differ as a whole.

    A contrastive image-text loss leaves siblings (``red heart``, ``broken heart``) almost the same
    states, and a denoiser that reads them draws one for the other. Here two captions of one picture
    attract and those of others repel (temperature 0.1), compared by the mean of their states over
    all positions.
    """
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(encoder.parameters(), 5e-4, weight_decay=0.01)
    schedule = annealed(optimizer, steps)
    tokens = [
        tokenizer(c, padding="max_length", truncation=True, return_tensors="pt").input_ids
        for c in captions
    ]
    names = {c[0]: [i for i, other in enumerate(captions) if other[0] == c[0]] for c in captions}
    draw = torch.Generator().manual_seed(seed)
    pick = lambda n, count=1: torch.randperm(n, generator=draw)[:count].tolist()
    for _ in track(range(steps), "separate"):
        rows = [
            group[pick(len(group))[0]]
            for group in (list(names.values())[i] for i in pick(len(names), 160))
        ]
        pairs = torch.stack([tokens[row][pick(len(tokens[row]), 2)] for row in rows])  # [B, 2, L]
        states = F.normalize(
            encoder(pairs.flatten(0, 1)).last_hidden_state.mean(1), dim=-1
        ).unflatten(0, (-1, 2))
        logits = states[:, 0] @ states[:, 1].T / 0.1
        labels = torch.arange(len(rows))
        loss = F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def train_components(
    pixels: torch.Tensor,
    captions: list[list[str]],
    out: Path,
    vae_steps: int = 1600,
    clip_steps: int = 400,
) -> None:
    """Train all components and save them under ``out`` in diffusers' folder format, with ``clip``
    beside them."""
    side = pixels.shape[-1]
    tokenizer = train_tokenizer([c for group in captions for c in group], out / "tokenizer")
    clip = train_clip(pixels, captions, tokenizer, clip_steps)
    clip.save_pretrained(out / "clip")
    tokenizer.save_pretrained(out / "clip")
    half = [0.5] * 3
    size = {"height": side, "width": side}
    CLIPImageProcessor(size=size, crop_size=size, image_mean=half, image_std=half).save_pretrained(
        out / "clip"
    )
    encoder = CLIPTextModel.from_pretrained(out / "clip")
    separate(encoder, captions, tokenizer, clip_steps)
    encoder.save_pretrained(out / "text_encoder")
    train_autoencoder(pixels, vae_steps).save_pretrained(out / "vae")
    (out / LATENTS).write_text(json.dumps({"pack": 2}) + "\n")
    DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=True,
        clip_sample_range=3.0,  # latents have unit variance
        set_alpha_to_one=True,
    ).save_pretrained(out / "scheduler")


def main(out: Path) -> None:
    records = load_captions(ROOT / "data/captions.json", ROOT / "data/images")
    pixels = torch.stack([torch.from_numpy(read_image(record.path, 64)) for record in records])
    train_components(pixels, [list(record.captions) for record in records], out)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/components"))
