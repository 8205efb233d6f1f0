"""docs/add-a-method.md: its lines, as they stand there, lead from an idea to a row of the judge;
as a method of the registry they give the same scores."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT

from abu.baselines import kernels
from abu.baselines.registry import METHODS, scores
from abu.data.rows import Parts, in_parts
from abu.diffusion.components import load_components
from abu.judge.sharpen import sharpen
from abu.judge.verdict import verdict_of
from abu.study.folders import read_yaml

PAGE = (ROOT / "docs/add-a-method.md").read_text()
IDEA, COMMAND, PRINTED, FUNCTION, LINE = re.findall(r"```(?:python)?\n(.*?)```", PAGE, re.DOTALL)
ROW = r"^  all +(-?\d\.\d{3})  \((-?\d\.\d{3}) to (-?\d\.\d{3})\), 66 queries$"


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, dict]:
    """A folder with the data alone, in which the lines were run, and the names that they left."""
    folder, names = tmp_path_factory.mktemp("clone"), {}
    (folder / "data").symlink_to(ROOT / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(IDEA, names)
    return folder, names


def test_it_is_at_most_fifteen_lines() -> None:
    lines = [line for line in (IDEA + COMMAND).splitlines() if line.strip()]
    assert len(lines) <= 15 and max(map(len, lines)) <= 100


def test_it_ends_in_a_row_of_the_judge(done: tuple[Path, dict]) -> None:
    python, *words = shlex.split(COMMAND)
    assert python == ".venv/bin/python"
    called = [sys.executable, *words]
    printed = subprocess.run(called, cwd=done[0], capture_output=True, text=True, check=True).stdout
    row = lambda text: map(float, re.search(ROW, text, re.MULTILINE).groups())
    (value, low, high), (written, *_) = row(printed), row(PRINTED)
    assert 0.4 < value < 0.9 and low < value < high and abs(value - written) < 0.1
    rank = r"^Rank among the \d+ methods of this study, sharpened too: \d+$"
    assert re.search(rank, printed, re.MULTILINE)
    assert re.sub(r"[-\d.]+", "", printed).split() == re.sub(r"[-\d.]+", "", PRINTED).split()


def test_the_registry_gives_the_same_scores(done: tuple[Path, dict], monkeypatch) -> None:
    names = {**vars(kernels), "METHODS": dict(METHODS), "in_parts": in_parts}
    exec(FUNCTION + LINE, names)
    monkeypatch.setitem(METHODS, "mixture", names["METHODS"]["mixture"])
    images = torch.tensor(done[1]["images"] / 2 + 0.5)
    parts = Parts(lambda first, last: images[first:last], len(images))
    evidence = {"pixels": (done[1]["drawn"], parts)}.__getitem__
    found = scores("mixture", evidence, {"ridge": 0.3})
    np.testing.assert_allclose(found, done[1]["scores"].numpy(), rtol=1e-5, atol=1e-9)
    assert names["mixture"].__doc__ and METHODS["mixture"][1] == METHODS["pixel"][1]


def test_its_choices_are_those_of_the_tuning_queries(done: tuple[Path, dict]) -> None:
    """By the pairs for tuning, as ``tune`` would search: nothing of its grid is much better."""
    bank, z, images = (done[1][name] for name in ("bank", "z", "images"))
    queries, grid = bank.queries[bank.queries.tuning], read_yaml(ROOT / "params.yaml")["tune"]
    latents = z[queries["query"]]
    verdict = verdict_of(bank, queries.name.tolist(), latents, tuning=True)
    drawn = load_components(ROOT / "data/components").decode(torch.tensor(latents))
    pair = drawn.flatten(1), torch.tensor(images / 2 + 0.5).flatten(1)
    found = {ridge: kernels.trak(pair, ridge).numpy() for ridge in grid["ridge"]}
    judged = {
        (ridge, sharpness): verdict.lds(sharpen(found[ridge], sharpness)).mean()
        for ridge in grid["ridge"]
        for sharpness in grid["sharpness"]
    }
    assert "ridge=0.3" in IDEA and "--sharpness 0.5" in COMMAND
    assert judged[0.3, 0.5] > max(judged.values()) - 0.05
