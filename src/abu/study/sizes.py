"""How large a study's data and models are, from its parameters, its annotations, and configs: no picture and no weight is needed."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from abu.data.captions import load_captions, load_exemplars
from abu.data.published import exemplars, model_name, read_tasks, tasks_of
from abu.data.readers import read_array
from abu.diffusion.components import Components
from abu.diffusion.unet import SELECTIONS

EXEMPLARS = 8  # of a customized model whose pictures are not here to be counted


@dataclass(frozen=True)
class Sizes:
    """``exemplars`` and ``published`` (pictures of a published task list): numbers by customized model; ``latent``: [c, h, w], of
    ``flips`` pictures an image; ``tokens``, ``width``: of token states; ``states``: how they are kept; ``unet``, ``frozen``:
    parameters of the U-Net and of the components; ``clip``: bytes of the CLIP beside these; ``shapes``: of the attributed weights,
    by selection and name; ``picture``: one of the data, where it is there."""

    images: int
    captions: int
    flips: int
    states: str
    exemplars: dict[str, int]
    published: dict[str, int]
    latent: tuple[int, int, int]
    tokens: int
    width: int
    unet: int
    frozen: int
    clip: int
    shapes: dict[str, dict[str, tuple[int, ...]]]
    picture: Path | None


class Blank(Components):
    """Components that need no vocabulary: every caption has the same token ids."""

    def tokens(self, captions: list[str]) -> Tensor:
        return torch.zeros(
            len(captions), self.text_encoder.config.max_position_embeddings, dtype=torch.int64
        )


def blank_components(source: str) -> Blank:
    """Components with random weights, from the configs alone of a folder or hub name in diffusers' format.

    Raises ValueError where there is none.
    """
    if source == "train":
        raise ValueError(
            "components.source is 'train': run the stage components first, then plan with source: results/components/model"
        )
    try:
        text = CLIPTextModel(CLIPTextConfig.from_pretrained(source, subfolder="text_encoder"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(source, subfolder="vae"))
        scheduler = DDIMScheduler.from_pretrained(source, subfolder="scheduler")
    except OSError as error:
        reason = str(error).splitlines()[0]
        expected = "a folder in diffusers' format or a hub name that can be reached"
        raise ValueError(
            f"components.source is {source!r}; expected {expected}: {reason}"
        ) from error
    tokenizer = SimpleNamespace(convert_tokens_to_ids=lambda token: 0)
    return Blank(
        tokenizer, text.requires_grad_(False).eval(), vae.requires_grad_(False).eval(), scheduler
    )


def latent_shape(vae: AutoencoderKL, side: int) -> tuple[int, int, int]:
    """[c, h, w] of a picture's latents."""
    small = side // 2 ** (len(vae.config.block_out_channels) - 1)
    return vae.config.latent_channels, small, small


def unet_config(train: dict, latent: tuple[int, int, int], width: int) -> dict:
    """Config of the U-Net that section ``train`` trains or loads. Raises ValueError for a source that cannot be read."""
    if not train["source"] or Path(train["source"]).is_file():  # released weights of train.unet
        channels = {
            "in_channels": latent[0],
            "out_channels": latent[0],
            "cross_attention_dim": width,
        }
        return {**train["unet"], "sample_size": latent[-1], **channels}
    try:
        return dict(UNet2DConditionModel.load_config(train["source"], subfolder="unet"))
    except OSError as error:
        raise ValueError(
            f"train.source {train['source']!r} has no U-Net in diffusers' format: {str(error).splitlines()[0]}"
        ) from error


def count_images(
    prepare: dict, images: int | None, captions: int | None
) -> tuple[int, int, int, str, Path | None]:
    """Images, captions of each, pictures of each (a mirror image counts), how token states are kept, and one picture, counted in the
    data unless both numbers are given. Raises ValueError where one is, FileNotFoundError for data that is not there."""
    if (images is None) != (captions is None):
        raise ValueError(
            f"plan.images is {images}, plan.captions {captions}; expected both, or neither to count them in the data"
        )
    if images is not None:
        return images, captions, 2, prepare["token_states"], None
    data = Path(prepare["annotations"]), Path(prepare["images"]), prepare["keep"]
    try:
        if prepare["latents"]:
            x, states = (
                read_array(Path(prepare[name]), "r")
                for name in ("latents", "texts" if prepare["texts"] else "annotations")
            )
            n = len(load_captions(*data)) if prepare["texts"] else len(states)
            return (
                n,
                len(states) // n * (states.shape[1] if states.ndim == 4 else 1),
                len(x) // n,
                str(states.dtype),
                None,
            )
        records = load_captions(*data)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}; to plan before the data is there, give plan.images and plan.captions"
        ) from error
    return (
        len(records),
        min(len(record.captions) for record in records),
        2,
        prepare["token_states"],
        records[0].path,
    )


def count_published(customize: dict) -> dict[str, int]:
    """Pictures of a published task list by model; none without one. Raises FileNotFoundError for a list that is not there."""
    if not customize["tasks"]:
        return {}
    path = Path(customize["root"], customize["tasks"])
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: this task list says how many pictures each model is asked about"
        )
    return dict(Counter(model_name(row["model_path"]) for row in json.loads(path.read_text())))


def count_exemplars(customize: dict, models: dict[str, dict | None]) -> dict[str, int]:
    """Exemplars of each customized model; ``EXEMPLARS`` where their pictures are not there."""
    root, found = Path(customize["root"]), {}
    sources = [[root / part for part in source] for source in customize["sources"]]
    for model, asked in models.items():
        try:
            if customize["tasks"]:
                found[model] = len(
                    exemplars(tasks_of(read_tasks(root / customize["tasks"], root), model), root)
                )
            else:
                found[model] = len(load_exemplars(sources, asked["keep"], asked["train_prompt"]))
        except FileNotFoundError:
            found[model] = EXEMPLARS
    return found


def sizes_of(
    study: dict, images: int | None = None, captions: int | None = None
) -> tuple[Sizes, Blank, dict]:
    """Sizes of a study (all its parameters), random components, and the U-Net's config; raises as the functions above."""
    source, side = study["components"]["source"], study["prepare"]["side"]
    components = blank_components(source)
    text, latent = components.text_encoder.config, latent_shape(components.vae, side)
    config = unet_config(study["train"], latent, text.hidden_size)
    with torch.device("meta"):  # shapes alone
        unet = UNet2DConditionModel.from_config(config)
    shapes = {
        selection: {name: tuple(p.shape) for name, p in unet.named_parameters() if chosen(name)}
        for selection, chosen in SELECTIONS.items()
    }
    count = lambda *models: sum(p.numel() for model in models for p in model.parameters())
    *counted, picture = count_images(study["prepare"], images, captions)
    sizes = Sizes(
        *counted,
        count_exemplars(study["customize"], study["common"]["models"]),
        count_published(study["customize"]),
        latent,
        text.max_position_embeddings,
        text.hidden_size,
        count(unet),
        count(components.text_encoder, components.vae),
        sum(path.stat().st_size for path in Path(source, "clip").rglob("*")),
        shapes,
        picture,
    )
    return sizes, components, config
