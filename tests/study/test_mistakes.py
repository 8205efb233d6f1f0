"""docs/mistakes.md: each message that it quotes is said when the mistake is made."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, coco_content, picture
from refusing import run
from ruamel.yaml import YAML
from studies import called, found_from

import abu
from abu.data.captions import load_captions
from abu.data.files import write_json
from abu.data.scores import write_scores
from abu.judge.__main__ import read_judged
from abu.judge.bank import read_bank
from abu.study import presets
from abu.study import run as runner
from abu.study.commands import command

PAGE = (ROOT / "docs/mistakes.md").read_text()
QUOTED = dict(enumerate(re.split(r"^## \d+\. .*$", PAGE, flags=re.MULTILINE)))
read = YAML(typ="safe").load
Said = Iterator[str] | list[str]


def quoted(number: int) -> list[str]:
    """Lines of the blocks of a section."""
    blocks = re.findall(r"```\n(.*?)```", QUOTED[number].partition("\n## ")[0], re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def told(call: Callable, *arguments) -> str:
    """The line in which a refusal ends."""
    with pytest.raises((KeyError, OSError, ValueError)) as refused:
        call(*arguments)
    error = refused.value
    return f"{type(error).__name__}: {error.args[0] if len(error.args) == 1 else error}"


def printed(root: Path, *words: str, **more: str) -> str:
    """All that a command that fails says."""
    options = {"capture_output": True, "text": True, "env": found_from(root, **more)}
    done = subprocess.run(words, cwd=root, **options)
    assert done.returncode != 0
    return done.stdout + done.stderr


def changed(root: Path, section: str, **values) -> Path:
    """The study with other parameters; None takes one away."""
    study = read(ROOT / "params.yaml")
    study[section] = {n: v for n, v in (study[section] | values).items() if v is not ...}
    YAML().dump(study, root / "params.yaml")
    return root


@pytest.fixture
def study(tmp_path: Path, monkeypatch) -> Path:
    """A clone in which nothing has run, without data."""
    for name in ("notebooks", "presets"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("dvc.yaml", "data.dvc", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(abu, "ROOT", tmp_path)
    return tmp_path


def dvc_says(root: Path, *words: str) -> str:
    if not (root / ".git").exists():
        call = lambda *words: called(root, *words)
        call("git", "init", "--quiet")
        call(sys.executable, "-m", "dvc", "init", "--quiet")
        call("git", "add", ".")
        call("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a")
    return printed(root, sys.executable, "-m", "dvc", *words)


def misspelt(root: Path) -> Said:
    changed(root, "train", checkpoint_every=..., checkpoint_evry=70)
    yield told(runner.execute, "components", {}, root)


def of_another_type(root: Path) -> Said:
    yield told(runner.execute, "components", {}, changed(root, "train", steps="560"))


def unknown_after_s(root: Path) -> Said:
    yield dvc_says(root, "exp", "run", "-S", "unlearn.stepz=3", "unlearn@base")
    yield told(runner.execute, "components", {}, changed(root, "unlearn", stepz=3))


def no_such_preset(root: Path) -> Said:
    yield told(presets.apply, Path("presets/owen.yaml"), root / "params.yaml")


def no_such_method(root: Path) -> Said:
    methods = ["dtrak", *read(ROOT / "params.yaml")["compare"]["methods"]]
    with pytest.raises(KeyError) as refused:
        run("compare", methods=methods)
    yield f"KeyError: {refused.value}"  # as a notebook shows it


def no_caption(root: Path) -> Said:
    presets.apply(root / "presets/own.yaml", root / "params.yaml")
    (root / "own/images").mkdir(parents=True)
    yield dvc_says(root, "repro", "--single-item", "prepare")
    content = coco_content()
    content["images"] = [{"id": id, "file_name": f"{id}.png"} for id in (1, 2)]
    content["annotations"] = content["annotations"][:1]
    write_json(root / "own/captions.json", content)
    for id in (1, 2):
        picture(root / f"own/images/{id}.png", id)
    yield told(load_captions, Path("own/captions.json"), Path("own/images"))


def too_early(root: Path) -> Said:
    yield told(runner.execute, "unlearn", {}, root)
    yield told(runner.execute, "unlern", {}, root)
    yield told(runner.main, "unlearn", "steps")
    assert not list((root / "results").rglob("*.ipynb"))


def bad_scores(root: Path) -> Said:
    bank = read_bank(ROOT / "data/bank")
    queries, path = bank.queries[~bank.queries.tuning]["query"].tolist(), Path("scores.parquet")
    values = np.random.default_rng(0).standard_normal((len(queries), len(bank.ids)))
    write_scores(path, {"mine": values}, queries, bank.ids)
    good = pd.read_parquet(path)
    assert read_judged(path, bank)[1].shape == values.shape
    place = lambda id: good.index[(good["query"] == queries[0]) & (good.image_id == id)][0]
    for bad in (
        good.drop(index=[place(150), place(1080)]),
        pd.concat([good, good.iloc[:2]]),
        good.assign(score=good.score.where(good.index != place(152))),
        good.assign(image_id=good.image_id.replace({0: 7})),
        good.assign(query=good["query"].replace({0: 400})),
        good.rename(columns={"image_id": "image"}),
        pd.concat([good, good.assign(method="theirs")]),
    ):
        bad.to_parquet(path)
        yield told(read_judged, path, bank)
    good.assign(image_id=good.image_id.astype(str)).to_parquet(path)
    yield told(read_judged, path, bank)
    yield told(read_judged, Path("scores.xlsx"), bank)


def not_set_up(root: Path) -> Said:
    (root / "nothing").mkdir()
    for name in ("pyproject.toml", "requirements.lock"):
        (root / name).touch()
    make = ["/usr/bin/make", "--file", str(ROOT / "Makefile"), "study", "PYTHON="]
    environment = {"PATH": str(root / "nothing")}
    yield subprocess.run(make, cwd=root, env=environment, capture_output=True, text=True).stdout
    bare = [sys.executable, "-S", "-m"]  # a Python without packages
    options = {"cwd": root, "capture_output": True, "text": True}
    for module, where in (("abu.judge", "nothing"), ("abu.study.run", "src")):
        there = {"PYTHONPATH": str(root / where)}
        yield subprocess.run([*bare, module], env=there, **options).stderr
    yield dvc_says(root, "repro")
    yield told(read_bank, root / "data/bank")


def not_watched(root: Path) -> Said:
    (root / "own").mkdir()
    (root / "own/fisher.pt").touch()
    yield told(runner.execute, "cache", {}, changed(root, "cache", fisher="own/fisher.pt"))


MADE: list[Callable[[Path], Said]] = [
    misspelt,
    of_another_type,
    unknown_after_s,
    no_such_preset,
    no_such_method,
    no_caption,
    too_early,
    bad_scores,
    not_set_up,
    not_watched,
]


def test_there_are_ten() -> None:
    assert len(QUOTED) - 1 == len(MADE) == 10
    assert all(quoted(number) for number in range(1, 11))


@pytest.mark.parametrize("number", range(1, 11), ids=lambda n: MADE[n - 1].__name__)
def test_what_is_quoted_is_said(number: int, study: Path) -> None:
    said = " ".join("\n".join(MADE[number - 1](study)).split())
    for line in quoted(number):
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in line.split("..."))
        assert re.search(pattern, said), f"{line}\nis not among\n{said}"


def test_a_refusal_is_one_line(study: Path) -> None:
    said = printed(study, sys.executable, "-m", "abu.study.run", "unlern")
    assert said.startswith("KeyError: unknown stage unlern; ") and said.count("\n") == 1


def test_help_is_given_and_nothing_done(monkeypatch, capsys) -> None:
    nothing = lambda *words: pytest.fail("it ran")
    monkeypatch.setattr(sys, "argv", ["run", "unlearn", "--help"])
    command(nothing, "What it does.\n")
    assert capsys.readouterr().out == "What it does.\n"
    monkeypatch.setattr(sys, "argv", ["run"])
    with pytest.raises(SystemExit, match="What it does."):
        command(nothing, "What it does.\n", least=1)
