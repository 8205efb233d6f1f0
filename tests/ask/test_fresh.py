"""The recorded model is asked about pictures that it draws afresh, and about photographs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from studies import run_stage, study_in

from abu import ROOT
from abu.ask.asker import Asker
from abu.ask.load import load_asker
from abu.diffusion.sample import sample

pytestmark = pytest.mark.slow
PROMPTS = ("skull", "robot", "ghost", "red apple", "lion", "broken heart", "tulip", "bear")
DRAWS = 2  # of each prompt
SIZES = {  # less of everything but of the model, the images and the queries
    "common.threads": 1,
    "train.replay": 2,
    "cache.*": {"fisher_draws": 4, "timesteps": [150, 350, 550, 750, 950], "captions": 2},
    "tune.*": {"sharpness": [1.0], "ridge": [1.0], "whole_damping": [1.0], "damping": [0.01]},
    "tune.dimension": 1024,
    "tune.cotangents": 1,
    "tune.timesteps": [500],
    "tune.plus_damping": [10.0],
    "tune.gradient_draws": 1,
}


@pytest.fixture(scope="module")
def asker(tmp_path_factory) -> Asker:
    root = study_in(tmp_path_factory.mktemp("asked") / "study", ROOT / "params.yaml", SIZES)
    for stage in ("components", "prepare", "train", "generate", "cache", "tune"):
        run_stage(root, stage)
    return load_asker(root=root)


@pytest.fixture(scope="module")
def drawn(asker: Asker, tmp_path_factory) -> tuple[list[Path], list[str]]:
    """Pictures of names that no query has, and their prompts."""
    system, folder = asker.system, tmp_path_factory.mktemp("drawn")
    prompts = [prompt for prompt in PROMPTS for _ in range(DRAWS)]
    names = [("fresh", prompt, number) for prompt in PROMPTS for number in range(DRAWS)]
    shape = tuple(system.images.latents.shape[2:])
    texts = system.components.texts(prompts)
    latents = sample(system.unet, system.components.scheduler, texts, system.empty, names, shape)
    files = [folder / f"{number}.png" for number in range(len(names))]
    for file, pixels in zip(files, system.components.decode(latents).numpy()):
        Image.fromarray((pixels.transpose(1, 2, 0) * 255).round().astype(np.uint8)).save(file)
    return files, prompts


@pytest.mark.parametrize("way", ["prompt", "guess", "exact"])
def test_their_concepts_images_come_first(asker: Asker, drawn, way: str) -> None:
    files, prompts = drawn
    given = {"guess": True} if way == "guess" else {"prompts": prompts, "exact": way == "exact"}
    replies = asker.ask(files, **given)
    table, recalls = asker.system.table, []
    concepts = dict(zip(asker.system.images.ids, table.concept))
    for reply, prompt in zip(replies, prompts):
        own = (table.concept == prompt).sum()
        recalls.append(sum(concepts[id] == prompt for id in reply.table.id) / own)
    assert np.mean(recalls) > 0.8  # chance: 10 of 288, 0.03
    assert sum(reply.nothing for reply in replies) <= 2


def test_the_model_knows_them_without_a_prompt(asker: Asker, drawn) -> None:
    assert sum(reply.nothing for reply in asker.ask(drawn[0])) <= 2


@pytest.mark.parametrize("prompt", [(), ("skull",)])
def test_photographs_owe_nothing_to_them(asker: Asker, tmp_path: Path, prompt: tuple) -> None:
    files = []
    for number, photograph in enumerate(load_sample_images().images):
        files.append(tmp_path / f"{number}.jpg")
        Image.fromarray(photograph).save(files[-1])
    replies = asker.ask(files, prompt)
    assert [reply.nothing for reply in replies] == [True, True]
    assert all("above" in reply.why for reply in replies)
