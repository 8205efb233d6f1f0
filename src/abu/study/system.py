"""The system that a stage asks about, as earlier stages left it: the trained model, or one that was
customized from it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from abu.data.images import Images, at_most
from abu.data.manifest import check_manifest, fingerprint
from abu.data.pictures import read_image
from abu.data.prepared import Prepared
from abu.data.queries import Queries, read_queries
from abu.data.readers import read_array
from abu.data.rows import stack
from abu.diffusion.components import Components, load_components
from abu.diffusion.customize import add_tokens
from abu.diffusion.deltas import load_customized, merge
from abu.diffusion.unet import load_unet
from abu.study.folders import BASE, read_json, results


@dataclass(frozen=True)
class System:
    """A model, and the images to which its pictures are attributed, in one order.

    ``images``: latents [N, 2, c, h, w], image and mirror image, and texts [N, C, L, D], on disk;
    ``table``: their records. Of a customized model the exemplars come first, then what the trained
    model was trained on, with as many captions as an exemplar has.
    """

    name: str
    components: Components
    unet: UNet2DConditionModel
    images: Images
    table: pd.DataFrame
    empty: Tensor  # token states of no caption
    side: int  # pixels
    background: str  # of transparent pictures
    facts: dict  # what every cache of this system must say of it: ids, model, latents
    trained: dict  # of the trained model: results/train/train.json
    customized: dict  # results/customize/NAME/customized.json; empty for the trained model

    @property
    def captions(self) -> list[list[str]]:
        """All captions of each image."""
        return self.table.captions.map(json.loads).tolist()

    def picture(self, file: str | Path) -> np.ndarray:
        """Pixels [3, side, side] in [0, 1] of a picture, as the model was shown them."""
        return read_image(Path(file), self.side, self.background) / 2 + 0.5

    def image(self, i: int) -> np.ndarray:
        """That of image number ``i``."""
        return self.picture(self.table.file[i])


def load_system(name: str = BASE, device: torch.device | str = "cpu") -> System:
    """The trained model, or the customized one of that name, from ``results/``.

    Raises FileNotFoundError for a model that was not customized, ValueError for one customized from
    another model or exemplars whose ids others have.
    """
    components = load_components("results/components/model", device)
    unet = load_unet("results/train/unet", device)
    trained = read_json("results/train/train.json")
    data = Prepared(Path("results/prepare"), components.states)
    ids, at = trained["train_ids"], data.rows(trained["train_ids"])
    table = data.images.iloc[at.numpy()].reset_index(drop=True)
    facts = {"ids": ids, "model": trained["model"], "latents": data.manifest["latents"]}
    counts = None if data.counts is None else data.counts[at]
    images = Images(ids, data.latents[at], data.texts[at], counts)
    given = {"empty": data.empty, "side": data.manifest["side"], "trained": trained}
    given["background"] = data.background
    if name == BASE:
        return System(name, components, unet, images, table, facts=facts, customized={}, **given)
    folder = results("customize", name)
    if not (file := folder / "customized.json").is_file():
        raise FileNotFoundError(f"no customized model {name!r}: {file} is missing")
    customized = check_manifest(file, {"base": trained["model"]})
    weights, vectors = load_customized(folder)
    merge(unet, weights)
    components = add_tokens(components, vectors)
    exemplars = Prepared(folder, components.states)
    if shared := set(exemplars.ids) & set(ids):
        raise ValueError(f"exemplars of {name!r} have ids of other images: {sorted(shared)[:5]}")
    latents = stack(exemplars.latents, images.latents)
    texts = stack(exemplars.texts, images.texts)
    if images.counts is not None:
        ones = torch.full((len(exemplars.ids),), exemplars.texts.shape[1])
        counts = at_most(torch.cat([ones, images.counts]), texts.shape[1])
    images = Images(exemplars.ids + ids, latents, texts, counts)
    both = exemplars.images.assign(exemplar=True), table.assign(exemplar=False)
    table = pd.concat(both, ignore_index=True)
    hashed = fingerprint(exemplars.manifest["latents"], facts["latents"])
    facts = {"ids": images.ids, "model": customized["model"], "latents": hashed}
    given |= {"facts": facts, "customized": customized}
    return System(name, components, unet, images, table, **given)


def load_queries(
    name: str = BASE, tuning: bool | None = False
) -> tuple[pd.DataFrame, Queries, Tensor]:
    """Table, arrays and pictures [Q, 3, H, W] of a system's queries: those that are reported, those
    that choose hyper-parameters, or (None) both."""
    folder = results("generate", name)
    table = read_queries(folder / "queries.csv")
    if tuning is not None:
        table = table[table.tuning == tuning].reset_index(drop=True)
    latents, texts, pictures = (
        torch.from_numpy(read_array(folder / f"{stem}.npy"))[table["query"].tolist()]
        for stem in ("latents", "texts", "pictures")
    )
    return table, Queries(table.name.tolist(), latents, texts), pictures


def sampler_of(name: str = BASE) -> dict:
    """How a system's queries were drawn: options of ``abu.diffusion.sample.sample``."""
    return read_json(results("generate", name) / "manifest.json")["sampler"]
