"""Studies that are no toys, made small: the MSCOCO preset, and what its authors released."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import UNet2DConditionModel
from helpers import stable_diffusion
from PIL import Image
from safetensors.torch import load_file
from studies import dvc, read, run_stage, study_in
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from abu import ROOT
from abu.data.captions import load_captions
from abu.data.prepared import Prepared
from abu.diffusion.components import load_components
from abu.diffusion.noise import permutation
from abu.diffusion.unet import load_unet

PRESET = ROOT / "presets/mscoco.yaml"
GIVEN = read(PRESET)
PROMPTS = {kind: prompts[:4] for kind, prompts in GIVEN["generate.prompts"].items()}
SMALL = {"block_out_channels": [8, 8, 8, 8], "layers_per_block": 1, "norm_num_groups": 4}
SIZES = {  # all that the test changes of presets/mscoco.yaml
    "common.threads": 1,
    "prepare.side": 32,
    "train.*": {"steps": 4, "batch_size": 8, "warmup": 1, "checkpoint_every": 2},
    "train.unet": GIVEN["train.unet"] | SMALL,
    "generate.steps": 4,
    "generate.prompts": PROMPTS,
    "cache.*": {"timesteps": [0, 500], "batch_size": 32, "shard": 6},
    "tune.*": {"dimension": 64, "rise": [0.001], "timesteps": [100, 900], "batch_size": 32},
    "tune.gradient_draws": 1,
    "tune.every": 1,
    "unlearn.*": {"gradient_draws": 2, "batch_size": 32},
    "influence.*": {"gradient_draws": 1, "candidates": 0.3, "top": 0.2},
    "influence.batch_size": 32,
    "components.*": {"clip": "data/components/clip", "dino": "external/dino"},
    "compare.batch_size": 32,
    "retrain.*": {"k": [2], "timesteps": [500], "batch_size": 32},
}


def coco(root: Path, count: int = 14) -> None:
    """A folder like COCO 2017: jpg photographs of different sizes, one of them grey, ids in no
    order, 5 to 7 captions, more fields."""
    records = load_captions(ROOT / "data/captions.json", ROOT / "data/images")[:count]
    ids = (100 + 7 * permutation(count, "ids")).tolist()
    images, captions = [], []
    (root / "train2017").mkdir(parents=True)
    for number, (id, record) in enumerate(zip(ids, records)):
        name, size = f"{id:012d}.jpg", (48 + number, 40)
        drawn = Image.new("RGB", size, "white")
        drawn.paste(Image.open(record.path).convert("RGB").resize((40, 40)), (number // 2, 0))
        drawn.convert("L" if number == 3 else "RGB").save(root / "train2017" / name)
        facts = {"license": 3, "file_name": name, "height": size[1], "width": size[0], "id": id}
        facts["coco_url"] = f"http://images.cocodataset.org/train2017/{name}"
        facts["flickr_url"] = "http://farm5.staticflickr.com/1.jpg"
        images.append(facts | {"date_captured": "2013-11-14 11:18:45"})
        texts = [*record.captions, "a small picture ", "A drawing of something."]
        for n, text in enumerate(texts[: 5 + number % 3]):
            captions.append({"image_id": id, "id": 1000 * number + n, "caption": text})
    shuffled = [captions[i] for i in permutation(len(captions), "captions")]
    (root / "annotations").mkdir()
    content = {"info": {"year": 2017}, "licenses": [], "images": images, "annotations": shuffled}
    (root / "annotations/captions_train2017.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def mscoco(tmp_path_factory) -> Path:
    """``presets/mscoco.yaml`` on a small COCO, by a real ``dvc repro``."""
    root = study_in(tmp_path_factory.mktemp("mscoco"), PRESET, SIZES)
    coco(root / "external/coco")
    stable_diffusion(root / "external/sd2", version=2)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    dino = ViTModel(ViTConfig(intermediate_size=8, image_size=32, **sizes))
    dino.save_pretrained(root / "external/dino")
    side = {"height": 32, "width": 32}
    ViTImageProcessor(size=side).save_pretrained(root / "external/dino")
    dvc(root, "repro --quiet")
    return root


def test_the_papers_unet_has_57_million_parameters() -> None:
    shape = {"sample_size": 16, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 1024}
    with torch.device("meta"):
        unet = UNet2DConditionModel(**GIVEN["train.unet"], **shape)
    sizes = {name: p.numel() for name, p in unet.named_parameters()}
    keys = {n: size for n, size in sizes.items() if "attn2.to_k" in n or "attn2.to_v" in n}
    counts = f"{sum(sizes.values()) / 1e6:.1f} {sum(keys.values()) / 1e6:.2f} {len(keys) // 2}"
    assert counts == "57.4 7.08 16"


@pytest.mark.slow
def test_mscoco_runs_to_the_report(mscoco: Path) -> None:
    results = mscoco / "results"
    load = lambda path: json.loads(path.read_text())
    content = load(mscoco / "external/coco/annotations/captions_train2017.json")
    ids = [image["id"] for image in content["images"]]
    manifest = load(results / "prepare/manifest.json")
    assert ids != sorted(ids) and manifest["ids"] == ids and manifest["captions"] == 5
    images = pd.read_csv(results / "prepare/images.csv")
    assert {"license", "coco_url", "date_captured"} <= set(images)
    first = {}
    for row in content["annotations"]:
        first.setdefault(row["image_id"], row["caption"])
    assert images.caption.tolist() == [first[id] for id in ids]
    scheduler = load_components(results / "components/model").scheduler
    assert scheduler.config.prediction_type == "epsilon"
    last = np.prod(1 - np.linspace(1e-4, 0.02, 1000))
    assert scheduler.alphas_cumprod[-1] == pytest.approx(last, rel=1e-3)
    losses = np.load(results / "cache/base/losses.npy")
    assert losses.shape == (14, 2, 5, 2) and np.isfinite(losses).all()
    scores = pd.read_parquet(results / "unlearn/base/scores.parquet")
    assert set(scores.image_id) == set(ids) and np.isfinite(scores.score).all()
    assert load(results / "unlearn/base/metrics.json")["own_recall"] is None, (
        "nothing is known to be right"
    )
    methods = set(pd.read_parquet(results / "compare/base/scores.parquet").method)
    ours = {"abu", "abu-linear", "abu-gauss-newton", "abu-gn"}
    assert methods == ours | set(GIVEN["compare.methods"])
    assert load(results / "exemplars/metrics.json") == {}
    assert "No model was customized in this study." in (results / "report.ipynb").read_text()
    assert (results / "report/index.html").stat().st_size > 10_000


@pytest.mark.slow
def test_each_query_of_mscoco_is_judged_by_its_own_removals(mscoco: Path) -> None:
    results = mscoco / "results"
    models = pd.read_csv(results / "retrain/models.csv")
    removed = np.load(results / "retrain/removed.npy")
    queries = pd.read_csv(results / "generate/base/queries.csv").query("not tuning")
    scores = pd.read_parquet(results / "unlearn/base/scores.parquet")
    ids = json.loads((results / "train/train.json").read_text())["train_ids"]
    each = len(queries)
    counts = {("none", 0): 2, ("abu", 2): each, ("random", 2): each}
    assert models.ran.all() and models.groupby(["method", "k"]).size().to_dict() == counts
    for row, gone in zip(models.itertuples(), removed):
        if row.method == "abu":
            one = scores[scores["query"] == int(row.group.split()[1])]
            first = set(one[one["rank"] <= row.k].image_id)
            assert {id for id, out in zip(ids, gone) if out} == first
    deviations = pd.read_parquet(results / "evaluate/more/deviations.parquet")
    own = deviations[deviations.k > 0]
    assert (own.group == "query " + own["query"].astype(str)).all() and len(own) == 2 * each


@pytest.mark.slow
def test_released_files_of_a_study_give_that_study_back(mscoco: Path, tmp_path: Path) -> None:
    """Latents, token states, weights and Fisher information in the authors' formats, through the
    notebooks that made them."""
    root, before = shutil.copytree(mscoco, tmp_path / "again"), mscoco / "results"
    after, external = root / "results", root / "external"
    order = permutation(14, "released")
    ids = json.loads((before / "prepare/manifest.json").read_text())["ids"]
    latents = np.load(before / "prepare/latents.npy")[order].swapaxes(0, 1)
    np.save(external / "latents.npy", np.concatenate(latents))
    np.save(external / "texts.npy", np.load(before / "prepare/texts.npy")[order])
    (external / "latents.json").write_text(json.dumps([ids[i] for i in order]))
    torch.save(load_unet(before / "train/unet").state_dict(), external / "model.bin")
    fisher = load_file(before / "cache/base/curvature.safetensors")
    torch.save(fisher, external / "fisher.pt")
    for stage in ("prepare", "train", "cache"):
        shutil.rmtree(after / stage)
    given = f"latents={external / 'latents.npy'}", f"texts={external / 'texts.npy'}"
    run_stage(root, "prepare", *given)
    run_stage(root, "train", f"source={external / 'model.bin'}", "check=false")
    run_stage(root, "cache", f"fisher={external / 'fisher.pt'}")
    prepared = Prepared(after / "prepare")
    trained = [json.loads((path / "train/train.json").read_text()) for path in (before, after)]
    assert prepared.ids == [ids[i] for i in order] == trained[1]["train_ids"]
    for name in ("prepare/latents", "prepare/texts", "cache/base/losses"):
        old, new = (np.load(path / f"{name}.npy") for path in (before, after))
        np.testing.assert_allclose(new, old[order], rtol=1e-4, atol=1e-6)
    tables = [pd.read_csv(path / "prepare/images.csv") for path in (before, after)]
    captions = tables[0].set_index("id").caption[prepared.ids]
    assert tables[1].caption.tolist() == captions.tolist()
    assert trained[0]["model"] == trained[1]["model"], "the same weights to the bit"
    again = load_file(after / "cache/base/curvature.safetensors")
    assert fisher.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in fisher.items())
