"""Studies that are no toys: the MSCOCO preset and a Stable-Diffusion-format model run from end to end, made small."""

import json
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from helpers import picture, stable_diffusion, write_params
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import load_file
from test_pipeline import abu_run, dvc, study_in
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from abu import ROOT
from abu.data.captions import load_captions
from abu.data.pictures import read_image
from abu.data.prepared import Prepared
from abu.diffusion.components import load_components
from abu.diffusion.noise import normal, permutation
from abu.diffusion.unet import load_unet

read = YAML(typ="safe").load
PRESET = ROOT / "presets/mscoco.yaml"
SIZES = {  # all that the test changes of presets/mscoco.yaml, beside the sizes of the U-Net and the number of queries
    "common": {"threads": 1},
    "prepare": {"side": 32},
    "train": {"steps": 4, "batch_size": 8, "warmup": 1, "checkpoint_every": 2},
    "generate": {"steps": 4},
    "cache": {"timesteps": [0, 500], "batch_size": 32, "shard": 6},
    "tune": {"dimension": 64, "projection": [64], "timesteps": [100, 900], "gradient_draws": 1, "every": 1, "batch_size": 32},
    "unlearn": {"gradient_draws": 2, "batch_size": 32},
    "influence": {"gradient_draws": 1, "candidates": 0.3, "top": 0.2, "probe_images": 4, "batch_size": 32},
    "compare": {"clip": "data/components/clip", "dino": "external/dino", "batch_size": 32},
    "retrain": {"k": [2], "timesteps": [500], "batch_size": 32},
    "evaluate": {"clip": "data/components/clip"},
}
QUERIES = 4
SMALL_UNET = {"block_out_channels": [8, 8, 8, 8], "layers_per_block": 1, "norm_num_groups": 4}


def coco(root: Path, count: int = 14) -> None:
    """A folder like COCO 2017: jpg photographs of different sizes, one of them grey, ids in no order, 5 to 7 captions, more fields."""
    records = load_captions(ROOT / "data/captions.json", ROOT / "data/images")[:count]
    ids = (100 + 7 * permutation(count, "ids")).tolist()
    images, captions = [], []
    (root / "train2017").mkdir(parents=True)
    for number, (id, record) in enumerate(zip(ids, records)):
        name, size = f"{id:012d}.jpg", (48 + number, 40)
        drawn = Image.new("RGB", size, "white")
        drawn.paste(Image.open(record.path).convert("RGB").resize((40, 40)), (number // 2, 0))
        drawn.convert("L" if number == 3 else "RGB").save(root / "train2017" / name)
        images.append({"license": 3, "file_name": name, "coco_url": f"http://images.cocodataset.org/train2017/{name}", "height": size[1],
            "width": size[0], "date_captured": "2013-11-14 11:18:45", "flickr_url": "http://farm5.staticflickr.com/1.jpg", "id": id})  # fmt: skip
        texts = [*record.captions, "a small picture ", "A drawing of something."][: 5 + number % 3]
        captions += [{"image_id": id, "id": 1000 * number + n, "caption": text} for n, text in enumerate(texts)]
    shuffled = [captions[i] for i in permutation(len(captions), "captions")]
    (root / "annotations").mkdir()
    content = {"info": {"year": 2017}, "licenses": [], "images": images, "annotations": shuffled}
    (root / "annotations/captions_train2017.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def mscoco(tmp_path_factory) -> Path:
    """``presets/mscoco.yaml`` on a small COCO, by a real ``dvc repro``."""
    root = study_in(tmp_path_factory.mktemp("mscoco"))
    coco(root / "external/coco")
    stable_diffusion(root / "external/sd2", version=2)
    ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32)).save_pretrained(root / "external/dino")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(root / "external/dino")
    params = write_params(root, PRESET, SIZES)
    prompts = {kind: listed[:QUERIES] for kind, listed in params["generate"]["prompts"].items()}
    sizes = {"train": {"unet": params["train"]["unet"] | SMALL_UNET}, "generate": {"prompts": prompts}}
    write_params(root, root / "params.yaml", sizes)
    dvc(root, "repro --quiet")
    return root


def test_the_papers_unet_has_57_million_parameters() -> None:
    config = read(PRESET)["train"]["unet"]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config, sample_size=16, in_channels=4, out_channels=4, cross_attention_dim=1024)
    sizes = {name: p.numel() for name, p in unet.named_parameters()}
    keys = {name: size for name, size in sizes.items() if "attn2.to_k" in name or "attn2.to_v" in name}
    assert f"{sum(sizes.values()) / 1e6:.1f} {sum(keys.values()) / 1e6:.2f} {len(keys) // 2}" == "57.4 7.08 16"


def test_mscoco_runs_to_the_report(mscoco: Path) -> None:
    listed = json.loads((mscoco / "external/coco/annotations/captions_train2017.json").read_text())
    ids = [image["id"] for image in listed["images"]]
    manifest = json.loads((mscoco / "results/prepare/manifest.json").read_text())
    assert ids != sorted(ids) and manifest["ids"] == ids and manifest["captions"] == 5
    images = pd.read_csv(mscoco / "results/prepare/images.csv")
    assert {"license", "coco_url", "date_captured"} <= set(images) and images.caption.tolist() == [
        next(a["caption"] for a in listed["annotations"] if a["image_id"] == id) for id in ids
    ]
    scheduler = load_components(mscoco / "results/components/model").scheduler
    assert scheduler.config.prediction_type == "epsilon" and scheduler.alphas_cumprod[-1] == pytest.approx(np.prod(1 - np.linspace(1e-4, 0.02, 1000)), rel=1e-3)
    losses = np.load(mscoco / "results/cache/losses.npy")
    assert losses.shape == (14, 2, 5, 2) and np.isfinite(losses).all()
    scores = pd.read_parquet(mscoco / "results/unlearn/scores.parquet")
    assert set(scores.image_id) == set(ids) and np.isfinite(scores.score).all()
    assert json.loads((mscoco / "results/unlearn/metrics.json").read_text())["own_recall"] is None, "nothing is known to be right"
    methods = set(pd.read_parquet(mscoco / "results/compare/scores.parquet").method)
    assert methods == {"abu", "abu-linear", "abu-gauss-newton", "abu-gn", *read(PRESET)["compare"]["methods"]}
    assert json.loads((mscoco / "results/exemplars/metrics.json").read_text()) == {}
    report = (mscoco / "results/report.ipynb").read_text()
    assert "No model was customized in this study." in report and (mscoco / "results/report/index.html").stat().st_size > 10_000


def test_each_query_of_mscoco_is_judged_by_its_own_removals(mscoco: Path) -> None:
    models, removed = pd.read_csv(mscoco / "results/retrain/models.csv"), np.load(mscoco / "results/retrain/removed.npy")
    queries = pd.read_csv(mscoco / "results/generate/queries.csv").query("kind == 'plain'")
    scores = pd.read_parquet(mscoco / "results/unlearn/scores.parquet")
    ids = json.loads((mscoco / "results/train/train.json").read_text())["train_ids"]
    assert models.ran.all() and models.groupby(["method", "k"]).size().to_dict() == {
        ("none", 0): 2, ("abu", 2): len(queries), ("random", 2): len(queries)
    }
    for row, gone in zip(models.itertuples(), removed):
        if row.method == "abu":
            first = scores[(scores["query"] == int(row.group.split()[1])) & (scores["rank"] <= row.k)].image_id
            assert {id for id, out in zip(ids, gone) if out} == set(first)
    deviations = pd.read_parquet(mscoco / "results/evaluate/deviations.parquet")
    own = deviations[deviations.k > 0]
    assert (own.group == "query " + own["query"].astype(str)).all() and len(own) == 2 * len(queries)


def test_released_files_of_a_study_give_that_study_back(mscoco: Path, tmp_path) -> None:
    """Latents, token states, weights and Fisher information in the authors' formats, through the notebooks that made them."""
    root, results = shutil.copytree(mscoco, tmp_path / "again"), mscoco / "results"
    files = {name: root / "external" / name for name in ("latents.npy", "latents.json", "texts.npy", "model.bin", "fisher.pt")}
    order = permutation(14, "released")
    ids = json.loads((results / "prepare/manifest.json").read_text())["ids"]
    np.save(files["latents.npy"], np.concatenate(np.load(results / "prepare/latents.npy")[order].swapaxes(0, 1)))
    np.save(files["texts.npy"], np.load(results / "prepare/texts.npy")[order])
    files["latents.json"].write_text(json.dumps([ids[i] for i in order]))
    torch.save(load_unet(results / "train/unet").state_dict(), files["model.bin"])
    torch.save(load_file(results / "cache/curvature.safetensors"), files["fisher.pt"])
    shutil.rmtree(root / "results/prepare"), shutil.rmtree(root / "results/train"), shutil.rmtree(root / "results/cache")
    for stage in (f"prepare latents={files['latents.npy']} texts={files['texts.npy']}", f"train source={files['model.bin']}", f"cache fisher={files['fisher.pt']}"):
        abu_run(root, *stage.split())
    prepared = Prepared(root / "results/prepare")
    assert prepared.ids == [ids[i] for i in order] and json.loads((root / "results/train/train.json").read_text())["train_ids"] == prepared.ids
    for stage, name in (("prepare", "latents"), ("prepare", "texts"), ("cache", "losses")):
        np.testing.assert_allclose(np.load(root / f"results/{stage}/{name}.npy"), np.load(results / f"{stage}/{name}.npy")[order], rtol=1e-4, atol=1e-6)
    captions = [pd.read_csv(folder / "prepare/images.csv").set_index("id").caption for folder in (results, root / "results")]
    assert captions[1].tolist() == captions[0][prepared.ids].tolist()
    models = [json.loads((folder / "train/train.json").read_text())["model"] for folder in (results, root / "results")]
    assert models[0] == models[1], "the same weights to the bit"
    curvature = [load_file(folder / "cache/curvature.safetensors") for folder in (results, root / "results")]
    assert curvature[0].keys() == curvature[1].keys() and all(torch.equal(value, curvature[1][name]) for name, value in curvature[0].items())


PHOTOS = {  # all that the test changes of tests/params.yaml: the model comes from a folder, the pictures from another
    "common": {"models": {}, "threads": 1},
    "components": {"source": "external/sd2"},
    "prepare": {"annotations": "external/photos/captions.json", "images": "external/photos/images", "keep": {}, "side": 32},
    "train": {"source": "external/sd2"},
    "generate": {"prompts": {"tuning": ["photo 1"], "plain": ["photo 2", "photo 5"], "uncaptioned": [""]}, "steps": 3},
    "unlearn": {"regions": {"photo 2": [0, 0, 0.5, 1]}},
    "localize": {"pairs": [["photo 2", "photo 5"]]},
    "compare": {"clip": "data/components/clip"},
    "evaluate": {"clip": "data/components/clip"},
    "customize": {"root": "external/photos"},
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """The whole first study on a model in the format of Stable Diffusion 2 and a folder of photographs, by a real ``dvc repro``."""
    root = study_in(tmp_path_factory.mktemp("photographs"))
    stable_diffusion(root / "external/sd2", version=2)
    for id in range(10):
        picture(root / f"external/photos/images/{id}.png", id, size=32 + id)
    listed = {"images": [{"id": i, "file_name": f"{i}.png"} for i in range(10)],
        "annotations": [{"image_id": i, "caption": text} for i in range(10) for text in (f"photo {i}", "a photo")]}  # fmt: skip
    (root / "external/photos/captions.json").write_text(json.dumps(listed))
    write_params(root, ROOT / "tests/params.yaml", PHOTOS)
    dvc(root, "repro --quiet")
    return root


def test_a_stable_diffusion_folder_runs_to_the_report(photographs: Path) -> None:
    unet = load_unet(photographs / "results/train/unet")
    assert unet.config.use_linear_projection and list(unet.config.attention_head_dim) == [2, 4]
    theirs = UNet2DConditionModel.from_pretrained(photographs / "external/sd2/unet")
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in unet.state_dict().items())
    scheduler = load_components(photographs / "results/components/model").scheduler.config
    assert (scheduler.prediction_type, scheduler.beta_schedule) == ("v_prediction", "scaled_linear")
    assert json.loads((photographs / "results/train/train.json").read_text())["train_ids"] == list(range(10))
    assert len(np.load(photographs / "results/cache/store.npy", mmap_mode="r")) == 10
    scores = pd.read_parquet(photographs / "results/compare/scores.parquet")
    assert {"abu", "abu-plus", "abu-gn", "trak", "journey-trak", "d-trak", "das"} <= set(scores.method) and np.isfinite(scores.score).all()
    assert scores.groupby("method").size().eq(3 * 10).all()


def test_a_model_from_elsewhere_is_not_trained_again_and_the_notebooks_say_so(photographs: Path) -> None:
    models = pd.read_csv(photographs / "results/retrain/models.csv")
    assert models[["method", "images", "ran"]].values.tolist() == [["none", 0, True]]
    said = "".join(
        output.get("text", "") for name in ("retrain", "report") for cell in nbformat.read(photographs / f"results/{name}.ipynb", 4).cells
        for output in cell.get("outputs", [])
    )  # fmt: skip
    assert "The model is external/sd2. How it was trained is not known here, so nothing was trained again" in said
    assert "No model was trained again: the model in question is external/sd2" in said
    assert "in question" in json.loads((photographs / "results/evaluate/views.json").read_text())
    assert (photographs / "results/report/index.html").stat().st_size > 10_000


def test_losses_of_a_stable_diffusion_folder_are_those_of_its_own_pipeline(photographs: Path) -> None:
    """Cached losses against diffusers alone: pipeline, picture, caption, noise; velocity, scaled latents."""
    pipe = StableDiffusionPipeline.from_pretrained(photographs / "external/sd2", safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    noises = DDIMScheduler.from_config(pipe.scheduler.config)
    pixels = torch.from_numpy(read_image(photographs / "external/photos/images/7.png", 32))[None]
    tokens = pipe.tokenizer(["photo 7"], padding="max_length", max_length=24, truncation=True, return_tensors="pt").input_ids
    losses = np.load(photographs / "results/cache/losses.npy")
    with torch.no_grad():
        x0 = pipe.vae.encode(pixels).latent_dist.mode() * 0.18215
        states = pipe.text_encoder(tokens).last_hidden_state
        for place, t in enumerate([300, 700]):
            eps = normal(tuple(x0.shape[1:]), 0, "loss", 7, 0, t)[None]
            alpha, sigma = noises.alphas_cumprod[t].sqrt(), (1 - noises.alphas_cumprod[t]).sqrt()
            found = pipe.unet(alpha * x0 + sigma * eps, t, encoder_hidden_states=states).sample
            assert losses[7, 0, 0, place] == pytest.approx((found - (alpha * eps - sigma * x0)).square().mean().item(), rel=2e-3)
