"""The system that a stage asks about, as earlier stages left it: the trained model, or one that was customized from it."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from abu.data.manifest import check_manifest, fingerprint
from abu.data.prepared import Prepared
from abu.data.rows import Rows, stack
from abu.diffusion.components import Components, load_components
from abu.diffusion.customize import add_token, load_customized, merge
from abu.diffusion.unet import load_unet


def results(stage: str, customized: str | None = None) -> Path:
    """Folder of a stage's results: ``results/STAGE``, or ``results/STAGE-customized/NAME``."""
    return (
        Path("results", stage)
        if customized is None
        else Path("results", f"{stage}-customized", customized)
    )


@dataclass(frozen=True)
class System:
    """A model, and the images to which its pictures are attributed, in one order.

    ``latents``: [N, 2, c, h, w], image and mirror image; ``texts``: [N, C, L, D], both on disk; ``images``: their table. Of a customized model
    the exemplars come first, then what the trained model was trained on, with as many captions as an exemplar has.
    """

    components: Components
    unet: UNet2DConditionModel
    latents: Rows
    texts: Rows
    empty: Tensor
    images: pd.DataFrame
    ids: list[int]
    side: int
    facts: dict  # what every cache of this system must say of it: ids, model, latents
    trained: dict  # of the base model: results/train/train.json
    customized: dict  # results/customize/NAME/customized.json; empty for the base model


def load_system(customized: str | None = None, device: torch.device | str = "cpu") -> System:
    """The trained model, or the customized one of that name, from ``results/``.

    Raises FileNotFoundError for a model that was not customized, ValueError for one customized from another base model or
    exemplars whose ids others have.
    """
    components = load_components("results/components/model", device)
    unet = load_unet("results/train/unet", device)
    trained = json.loads(Path("results/train/train.json").read_text())
    data = Prepared(Path("results/prepare"), components.states)
    at = data.rows(trained["train_ids"])
    images = data.images.iloc[at.numpy()].reset_index(drop=True)
    facts = {
        "ids": trained["train_ids"],
        "model": trained["model"],
        "latents": data.manifest["latents"],
    }
    parts = (data.latents[at], data.texts[at])
    if customized is None:
        return System(
            components,
            unet,
            *parts,
            data.empty,
            images,
            facts["ids"],
            data.manifest["side"],
            facts,
            trained,
            {},
        )
    folder = Path("results/customize", customized)
    if not (folder / "customized.json").is_file():
        raise FileNotFoundError(
            f"no customized model {customized!r}: {folder / 'customized.json'} is missing"
        )
    own = check_manifest(folder / "customized.json", {"base": trained["model"]})
    components = customize_as(folder, unet, components)
    exemplars = Prepared(folder, components.states)
    if shared := set(exemplars.ids) & set(facts["ids"]):
        raise ValueError(
            f"exemplars of {customized!r} have ids of other images: {sorted(shared)[:5]}"
        )
    ids = exemplars.ids + facts["ids"]
    facts = {
        "ids": ids,
        "model": own["model"],
        "latents": fingerprint(exemplars.manifest["latents"], facts["latents"]),
    }
    table = pd.concat(
        [exemplars.images.assign(exemplar=True), images.assign(exemplar=False)], ignore_index=True
    )
    latents, texts = (
        stack(getattr(exemplars, name), part) for name, part in zip(("latents", "texts"), parts)
    )
    return System(
        components,
        unet,
        latents,
        texts,
        data.empty,
        table,
        ids,
        data.manifest["side"],
        facts,
        trained,
        own,
    )


def customize_as(folder: Path, unet, components: Components) -> Components:
    """Put the customized weights of a folder into the U-Net; components that know its new token."""
    weights, token, vector = load_customized(folder)
    merge(unet, weights)
    return add_token(components, token, vector)
