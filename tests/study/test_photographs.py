"""The first study on a model in the format of Stable Diffusion 2 and a folder of photographs."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from helpers import picture, stable_diffusion
from studies import dvc, run_stage, study_in

from abu import ROOT
from abu.data.pictures import read_image
from abu.diffusion.components import load_components
from abu.diffusion.noise import normal
from abu.diffusion.unet import load_unet

pytestmark = pytest.mark.slow
PROMPTS = {"plain": ["photo 2", "photo 5"], "uncaptioned": [""]}
FOLDER = "external/photos"
CHANGES = {  # all that the test changes of tests/params.yaml
    "systems": {"base": {"kind": "base"}},
    "components.source": "external/sd2",
    "prepare.*": {"annotations": f"{FOLDER}/captions.json", "images": f"{FOLDER}/images"},
    "prepare.keep": {},
    "prepare.side": 32,
    "train.source": "external/sd2",
    "common.watch": ["files"],
    "train.check": False,  # its weights are drawn, not trained
    "generate.prompts": PROMPTS,
    "generate.tuning": {"plain": ["photo 1"]},
    "unlearn.regions": {"photo 2": [0, 0, 0.5, 1]},
    "localize.pairs": [["photo 2", "photo 5"]],
    "components.clip": "data/components/clip",
    "customize.root": FOLDER,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """All stages by a real ``dvc repro``."""
    preset, root = ROOT / "tests/params.yaml", tmp_path_factory.mktemp("photographs")
    study_in(root, preset, CHANGES)
    stable_diffusion(root / "external/sd2", version=2)
    for id in range(10):
        picture(root / FOLDER / f"images/{id}.png", id, size=32 + id)
    images = [{"id": id, "file_name": f"{id}.png"} for id in range(10)]
    texts = [(id, text) for id in range(10) for text in (f"photo {id}", "a photo")]
    captions = [{"image_id": id, "caption": text} for id, text in texts]
    content = {"images": images, "annotations": captions}
    (root / FOLDER / "captions.json").write_text(json.dumps(content))
    dvc(root, "repro --quiet")
    return root


def test_a_stable_diffusion_folder_runs_to_the_report(study: Path) -> None:
    unet = load_unet(study / "results/train/unet")
    assert unet.config.use_linear_projection and list(unet.config.attention_head_dim) == [2, 4]
    theirs = UNet2DConditionModel.from_pretrained(study / "external/sd2/unet").state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in unet.state_dict().items())
    scheduler = load_components(study / "results/components/model").scheduler.config
    found = scheduler.prediction_type, scheduler.beta_schedule
    assert found == ("v_prediction", "scaled_linear")
    trained = json.loads((study / "results/train/train.json").read_text())
    assert trained["train_ids"] == list(range(10))
    assert len(np.load(study / "results/cache/base/store.npy", mmap_mode="r")) == 10
    scores = pd.read_parquet(study / "results/compare/base/scores.parquet")
    some = {"abu", "abu-plus", "abu-gn", "trak", "journey-trak", "d-trak", "das"}
    assert some <= set(scores.method) and np.isfinite(scores.score).all()
    assert scores.groupby("method").size().eq(3 * 10).all()


def test_a_model_from_elsewhere_is_not_trained_again_and_the_notebooks_say_so(study: Path) -> None:
    models = pd.read_csv(study / "results/retrain/models.csv")
    assert models[["method", "images", "ran"]].values.tolist() == [["none", 0, True]]
    notebooks = [nbformat.read(study / f"results/{n}.ipynb", 4) for n in ("retrain", "report")]
    outputs = [o for nb in notebooks for cell in nb.cells for o in cell.get("outputs", [])]
    said = "".join(output.get("text", "") for output in outputs)
    assert (
        "The model is external/sd2. How it was trained is not known here, so nothing was trained "
        "again" in said
    )
    reason = "how external/sd2 was trained is not known here: no method is judged."
    assert f"No model was trained again, for {reason}" in said
    views = json.loads((study / "results/evaluate/more/views.json").read_text())
    assert "in question" in views
    assert (study / "results/report/index.html").stat().st_size > 10_000


def test_a_model_that_does_not_predict_what_its_scheduler_says_is_refused(study: Path) -> None:
    before = (study / "results/train/train.json").read_bytes()
    message = r"external/sd2: losses are epsilon 1\.\d+.*; the scheduler says v_prediction"
    with pytest.raises(AssertionError, match=message):
        run_stage(study, "train", "check=true")
    assert (study / "results/train/train.json").read_bytes() == before


def test_losses_of_a_stable_diffusion_folder_are_those_of_its_own_pipeline(study: Path) -> None:
    """Cached losses against diffusers alone: pipeline, picture, caption, noise; velocity, scaled
    latents."""
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = StableDiffusionPipeline.from_pretrained(study / "external/sd2", **none)
    noises = DDIMScheduler.from_config(pipe.scheduler.config)
    pixels = torch.from_numpy(read_image(study / FOLDER / "images/7.png", 32))[None]
    padded = {"padding": "max_length", "max_length": 24, "truncation": True}
    tokens = pipe.tokenizer(["photo 7"], return_tensors="pt", **padded).input_ids
    losses = np.load(study / "results/cache/base/losses.npy")
    with torch.no_grad():
        x0 = pipe.vae.encode(pixels).latent_dist.mode() * 0.18215
        states = pipe.text_encoder(tokens).last_hidden_state
        for place, t in enumerate([300, 700]):
            eps = normal(tuple(x0.shape[1:]), 0, "loss", 7, 0, t)[None]
            alpha, sigma = noises.alphas_cumprod[t].sqrt(), (1 - noises.alphas_cumprod[t]).sqrt()
            velocity = pipe.unet(alpha * x0 + sigma * eps, t, encoder_hidden_states=states).sample
            loss = (velocity - (alpha * eps - sigma * x0)).square().mean().item()
            assert losses[7, 0, 0, place] == pytest.approx(loss, rel=2e-3)
