"""README's "Your own images", word by word, on pictures and captions that are no emoji."""

import json
import shutil
import subprocess
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from helpers import picture
from studies import dvc, named, read, study_in

from abu import ROOT
from abu.study.presets import apply

pytestmark = pytest.mark.slow
THINGS, PLACES = ("boat", "barn", "bicycle", "lamp", "teapot"), ("harbour", "hill", "room", "road")
COUNT = 40
SIZES = {  # all that the test changes beside what README says
    "common.threads": 1,
    "train.*": {"steps": 6, "batch_size": 8, "warmup": 1, "checkpoint_every": 3},
    "train.unet.block_out_channels": [16, 16],
    "generate.steps": 3,
    "cache.*": {"fisher_draws": 2, "timesteps": [300, 700], "store": 256, "cotangents": 2},
    "tune.*": {"dimension": 256, "timesteps": [500], "rise": [0.001], "gradient_draws": 1},
    "tune.damping": [0.1],
    "unlearn.gradient_draws": 2,
    "influence.*": {"gradient_draws": 2},
    "retrain.*": {"timesteps": [300, 700], "pairs": [4]},
}


def own(root: Path) -> tuple[Path, Path]:
    """What a user has: pictures of several sizes in a folder, and their captions."""
    images, texts = [], []
    for id in range(1, COUNT + 1):
        name = f"IMG_{id:04d}.jpg"
        picture(root / "pictures" / name, "own", id, size=50 + id)
        images.append({"id": id, "file_name": name})
        thing, place = THINGS[id % len(THINGS)], PLACES[id // len(THINGS) % len(PLACES)]
        texts.append({"image_id": id, "caption": f"a {thing} by the {place}, picture {id}"})
    (root / "captions.json").write_text(json.dumps({"images": images, "annotations": texts}))
    return root / "pictures", root / "captions.json"


def walk() -> list[str]:
    """The commands of that section."""
    text = (ROOT / "README.md").read_text()
    section = text.partition("## Your own images\n")[2].partition("\n## ")[0]
    return section.split("```")[1].strip().splitlines()


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")
    pictures, captions = own(home)
    copy, preset, repro = walk()
    assert preset == "make preset NAME=own" and repro.endswith("dvc pull data && dvc repro")
    root = study_in(home / "study", ROOT / "presets/own.yaml", SIZES)
    copy = copy.replace("PICTURES", str(pictures)).replace("CAPTIONS.json", str(captions))
    subprocess.run(copy, cwd=root, shell=True, check=True)
    dvc(root, "repro --quiet")
    return root


def test_it_goes_to_the_report(study: Path) -> None:
    trained = json.loads((study / "results/train/train.json").read_text())
    assert len(trained["train_ids"]) == COUNT - 12
    queries = pd.read_csv(study / "results/generate/base/queries.csv", keep_default_na=False)
    assert queries.kind.value_counts().to_dict() == {"plain": 8, "uncaptioned": 2}
    assert queries.tuning.sum() == 2
    captions = [
        each["caption"]
        for each in json.loads((study / "own/captions.json").read_text())["annotations"]
    ]
    assert set(queries.prompt) - {""} <= set(captions) and queries.name.is_unique
    scores = pd.read_parquet(study / "results/compare/base/scores.parquet")
    assert set(scores.image_id) == set(trained["train_ids"])
    assert scores["query"].nunique() == 8 and {"abu", "das", "clip-text"} <= set(scores.method)
    judged = json.loads((study / "results/evaluate/metrics.json").read_text())
    assert judged["queries"] == 8 and judged["pairs"] == 3 and "abu" in judged["lds"]
    page = (study / "results/report/index.html").read_text()
    assert queries.prompt[2] in page and "customized" not in page.lower().partition("<script")[0]


def test_what_has_nothing_to_do_says_so(study: Path) -> None:
    said = lambda name: "".join(
        output.get("text", "")
        for cell in nbformat.read(study / f"results/{name}.ipynb", 4).cells
        for output in cell.get("outputs", [])
    )
    assert "No pair is asked for (localize.pairs)" in said("localize")
    assert "nothing is learned" in said("customize-base")


def test_a_second_run_does_nothing_and_another_picture_is_seen(study: Path) -> None:
    lock = (study / "dvc.lock").read_bytes()
    assert named(dvc(study, "repro")) == ["sources@files"]
    assert (study / "dvc.lock").read_bytes() == lock
    picture(study / "own/images/IMG_0001.jpg", "another", size=60)
    assert "prepare" in json.loads(dvc(study, "status --json"))


def test_the_preset_alone_changes_the_data_and_the_questions(tmp_path: Path) -> None:
    params = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    apply(ROOT / "presets/own.yaml", params)
    before, after = read(ROOT / "params.yaml"), read(params)
    changed = {name for name in before if before[name] != after[name]}
    expected = "common systems prepare train generate cache tune compare retrain evaluate localize"
    assert changed == set(expected.split())
