"""A byte of a file that a parameter names makes the stage stale that reads it, and no other."""

import json
import shutil
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML
from studies import IGNORED, called, dvc, named
from test_declarations import DECLARED, PARAMS, STAGES, read, resolved, root_with

from abu import ROOT
from abu.study.presets import apply
from abu.study.run import execute, parameters
from abu.study.sources import MEMO, link_named, texts

CHOICES = {  # texts that are one of a few, or a name of something else
    *"device precision engine ray_address weights curvature flips_reduce token_states".split(),
    *"token system out methods prompts tuning pairs groups keep unet scheduler".split(),
    *"features settings systems sampler comparisons products latin".split(),
}
IN_ROOT = {"customize.tasks", "customize.sources"}  # below customize.root
WITH_TEXT = (str, "list[str]", "list[list[str]]", "dict")
NUMBERS = ("int", "float", "bool", "list[int]", "list[float]")
MORE = {  # beside those of a stage's own section
    "retrain.latin": {"folder": "named/latin/bank.json"},
    "unlearn.regions": {"skull": "named/mask.png"},
    "changes.customized.unlearn.regions": {"<new1> cat": "named/mask-2.png"},
}


def walked() -> set[str]:
    """Parameters of stages that may name a path: all but numbers and ``CHOICES``."""
    return {
        f"{stage}.{name}"
        for stage in STAGES.keys() & DECLARED.keys()
        for name, declared in DECLARED[stage].items()
        if declared["inferred_type_name"] not in NUMBERS and name not in CHOICES
    }


def watched(name: str) -> bool:
    """Whether the stage's ``deps`` say the parameter itself."""
    return f"${{{name}}}" in STAGES[name.partition(".")[0]]["deps"]


OTHERS = sorted(name for name in walked() - IN_ROOT if not watched(name))
WHO = ("NAME", "EMAIL")
ALWAYS = "sources@files"
TOUCHED = [*{*OTHERS, *MORE}, "prepare.latents, its list", "train, one more"]


def test_every_text_is_a_choice_or_watched() -> None:
    assert {"train.source", "cache.fisher", "prepare.latents", "prepare.texts"} <= set(OTHERS)
    assert {"components.source", "components.clip", "components.dino"} <= set(OTHERS)
    assert "unlearn.regions" in OTHERS and watched("customize.root")
    may = {*OTHERS, "customize.sources"}  # which may as well lie elsewhere than in the root
    assert {f"results/sources/{name.partition('.')[0]}.json" for name in may} == {
        dep for stage in STAGES.values() for dep in stage["deps"] if "sources" in dep
    }


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda p: p.stem)
def test_what_presets_name_is_walked(preset: Path, tmp_path: Path) -> None:
    params = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    apply(preset, params)
    tree = read(params)
    found = [
        place
        for stage in STAGES
        for place, text in texts(stage, tree.get(stage))
        if text.startswith("external/")
    ]
    assert {".".join(place.split(".")[:2]) for place in found} <= walked()


def set_at(tree: dict, name: str, value: object) -> None:
    *path, key = name.split(".")
    for step in path:
        tree = tree[step]
    tree[key] = value


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """The stages that depend on what parameters name, each a command that does nothing, and
    parameters that all name a file, run."""
    root = tmp_path_factory.mktemp("named")
    root_with(root, ROOT / "params.yaml")
    shutil.copytree(ROOT / "src", root / "src", ignore=IGNORED)
    tree = json.loads(json.dumps(PARAMS))
    for name in OTHERS:
        set_at(tree, name, f"named/{name}/model.bin")
    set_at(tree, "prepare.latents", str(root / "named/latents.npy"))  # absolute
    set_at(tree, "train.source", "named/train.source")  # a folder
    for name, value in MORE.items():
        set_at(tree, name, value)
    for _, text in texts("", tree):
        if "named/" in text and not text.endswith("train.source"):
            (root / text).parent.mkdir(parents=True, exist_ok=True)
            (root / text).write_bytes(text.encode())
    (root / "named/train.source/unet").mkdir(parents=True)
    (root / "named/train.source/unet/config.json").write_text("{}")
    (root / "named/latents.json").write_text("[1, 2]")
    tree["common"]["watch"] = ["files"]
    YAML().dump(tree, root / "params.yaml")
    stages = {"sources": read(ROOT / "dvc.yaml")["stages"]["sources"]}
    for name, stage in resolved(tree).items():
        if deps := [dep for dep in stage.get("deps", []) if "sources" in dep]:
            stages[name.replace("@", "-")] = {"cmd": "true", "deps": deps}
    whole = read(ROOT / "dvc.yaml")
    YAML().dump({"vars": whole["vars"], "stages": stages}, root / "dvc.yaml")
    dvc(root, "init --no-scm --quiet")
    dvc(root, "repro --quiet")
    return root


def stale(root: Path) -> set[str]:
    """Stages that ``dvc status`` calls stale, without the one that always is."""
    with chdir(root):
        found = Repo().status()
    assert "always changed" in found.pop(ALWAYS)
    return {name.partition("-")[0] for name in found}


def test_a_second_run_does_nothing_else(study: Path) -> None:
    lock, memo = (study / "dvc.lock").read_bytes(), (study / MEMO).read_bytes()
    assert stale(study) == set()
    assert named(dvc(study, "repro")) == [ALWAYS]
    assert (study / "dvc.lock").read_bytes() == lock and (study / MEMO).read_bytes() == memo


def test_one_command_looks(study: Path) -> None:
    mask = study / "named/mask.png"
    before = mask.read_bytes()
    mask.write_bytes(b"#" + before[1:])
    assert named(dvc(study, f"repro {ALWAYS}")) == [ALWAYS]
    found = json.loads(dvc(study, "status --json"))
    assert {name for name in found if not name.startswith("unlearn-")} == {ALWAYS}
    assert found[ALWAYS] == ["always changed"] and len(found) == 4
    assert named(dvc(study, "repro"))[1:] == [name for name in found if name != ALWAYS]
    mask.write_bytes(before)
    dvc(study, "repro --quiet")


@pytest.mark.parametrize("name", sorted(TOUCHED))
def test_a_byte_makes_its_stage_stale(name: str, study: Path) -> None:
    tree, (section, *_) = read(study / "params.yaml"), name.split(".")
    file = {
        "prepare.latents, its list": study / "named/latents.json",
        "train.source": study / "named/train.source/unet/config.json",
        "train, one more": study / "named/train.source/vae.bin",
    }.get(name)
    if file is None:
        node = tree
        for step in name.split("."):
            node = node[step]
        file = study / next(text for _, text in texts("", node))
    before = file.read_bytes() if file.exists() else None
    file.write_bytes(b"#" + (before or b"")[1:])
    execute("sources", {}, study)  # as `dvc repro sources`
    expected = section if section != "changes" else name.split(".")[2]
    assert stale(study) == {expected.partition(",")[0]}
    file.write_bytes(before) if before else file.unlink()
    execute("sources", {}, study)
    assert stale(study) == set()


def test_a_name_on_a_hub_is_no_file_until_it_is_there(study: Path) -> None:
    tree = read(study / "params.yaml")
    set_at(tree, "components.dino", "facebook/dino-vits16")
    YAML().dump(tree, study / "params.yaml")
    execute("sources", {}, study)
    written = lambda: json.loads((study / "results/sources/components.json").read_text())
    assert "components.dino" not in written() and "components.clip" in written()
    (study / "facebook").mkdir()
    (study / "facebook/dino-vits16").write_text("weights")
    execute("sources", {}, study)
    assert set(written()["components.dino"]) == {"."}


def test_a_file_that_nothing_watches_is_refused(tmp_path: Path) -> None:
    root = root_with(tmp_path, ROOT / "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", root)
    tree = read(root / "params.yaml")
    set_at(tree, "unlearn.regions", {"skull": "mask.png"})
    set_at(tree, "generate.prompts.plain", ["mask.png"])
    YAML().dump(tree, root / "params.yaml")
    assert parameters("unlearn", {}, root)[1]["regions"] == {"skull": "mask.png"}
    (root / "mask.png").touch()
    found = f"unlearn.regions.skull names {root}/mask.png, whose bytes DVC does not look at"
    with pytest.raises(ValueError, match=f"{found}: set common.watch: .files. in params.yaml"):
        parameters("unlearn", {}, root)
    assert parameters("cache", {}, root) and parameters("generate", {}, root)
    set_at(tree, "common.watch", ["files"])
    YAML().dump(tree, root / "params.yaml")
    assert parameters("unlearn", {}, root)
    set_at(tree, "common.watch", ["hub"])
    YAML().dump(tree, root / "params.yaml")
    with pytest.raises(KeyError, match="unknown choice of common.watch hub; expected some of"):
        parameters("unlearn", {}, root)


def test_own_data_is_linked_where_an_experiment_runs(tmp_path: Path) -> None:
    here, there = tmp_path / "queue", tmp_path / "study"
    for folder in (here / "data", there / "own/images", there / "data"):
        folder.mkdir(parents=True)
    np.save(there / "own/latents.npy", np.zeros(1))
    (there / "own/latents.json").write_text("[2, 1]")  # the order of its images
    given = {"root": "data", "images": "own/images", "latents": "own/latents.npy", "gone": "own/x"}
    link_named(
        {"prepare": given | {"up": "../study", "all": str(there), "": "", "dot": "."}}, here, there
    )
    assert (here / "own/images").resolve() == there / "own/images"
    assert (here / "own/latents.npy").is_symlink() and not (here / "data").is_symlink()
    assert sorted(path.name for path in (here / "own").iterdir()) == [
        "images",
        "latents.json",
        "latents.npy",
    ]


@pytest.mark.slow
def test_a_queued_experiment_finds_own_data_that_git_ignores(tmp_path: Path) -> None:
    """Also a stage alone, after ``sources``."""
    root = root_with(tmp_path, ROOT / "params.yaml")
    shutil.copytree(ROOT / "src", root / "src", ignore=IGNORED)
    (root / "own/images").mkdir(parents=True)
    names = {"annotations": "captions.json", "latents": "latents.npy", "images": "images"}
    for name in ("captions.json", "latents.npy", "images/1.png"):
        (root / "own" / name).write_text(f"{name}\n")
    tree, whole = json.loads(json.dumps(PARAMS)), read(ROOT / "dvc.yaml")
    tree["prepare"] |= {key: f"own/{name}" for key, name in names.items()}
    tree["common"]["watch"] = ["files"]
    YAML().dump(tree, root / "params.yaml")
    deps = ["${prepare.annotations}", "${prepare.images}", "results/sources/prepare.json"]
    command = "mkdir -p results/prepare && cat own/*.* own/images/* > results/prepare/all"
    prepare = {"cmd": command, "deps": deps, "params": ["prepare"], "outs": ["results/prepare"]}
    stages = {"sources": whole["stages"]["sources"], "prepare": prepare}
    YAML().dump({"vars": whole["vars"], "stages": stages}, root / "dvc.yaml")
    (root / ".gitignore").write_text("/own\n/scratch\n/results/*/\n__pycache__\n")
    who = {f"GIT_{who}_{what}": "me@home" for who in ("AUTHOR", "COMMITTER") for what in WHO}
    call = lambda *words: called(root, *words, **who)
    run = lambda words: call(sys.executable, "-m", "dvc", *words.split())
    call("git", "init", "--quiet")
    run("init --quiet")
    run("repro --quiet")
    call("git", "add", "--all")
    call("git", "commit", "--quiet", "--message", "study")
    keep = lambda: read(root / "params.yaml")["prepare"]["keep"]
    run("exp run -S prepare.keep={}")
    assert keep() == PARAMS["prepare"]["keep"] != {}, "as docs/parameters.md says"
    run("exp run -S ~prepare.keep.set -S +prepare.keep.style=[noto]")
    assert keep() == {"style": ["noto"]}
    call("git", "checkout", "--quiet", ".")
    run("exp run --queue -n whole -S prepare.side=32")
    run("exp run --queue -n alone -S prepare.side=16 --single-item sources@files prepare")
    run("exp run --run-all")
    shown = json.loads(run("exp show --json"))
    ran = [each for state in shown for each in state["experiments"] or []]
    ran = [each for each in ran if each["name"] in ("whole", "alone")]
    assert {each["name"]: (each["executor"] or {}).get("state") for each in ran} == {
        "whole": "success",
        "alone": "success",
    }
    outs = [each["revs"][0]["data"]["outs"]["results/prepare"]["hash"] for each in ran]
    assert outs == [shown[0]["data"]["outs"]["results/prepare"]["hash"]] * 2, "the same bytes"
