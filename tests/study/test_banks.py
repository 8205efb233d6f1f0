"""The tiny study's bank: it is this study's, goes on where it stopped, and is trained again."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from studies import read

from abu.judge.bank import read_bank
from abu.study import banks
from abu.study.audits import audited, replayed, shared_pictures
from abu.study.banks import Asked, asked_of, check_bank, record
from abu.study.engines import Engine
from abu.study.tasks import run_tasks


@pytest.fixture
def asked(tiny: Path, monkeypatch) -> Asked:
    monkeypatch.chdir(tiny)
    return asked_of(read(Path("params.yaml"))["retrain"], "cpu")[1]


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny / "results/retrain/bank", tmp_path / "bank"))


def test_a_bank_goes_on_where_it_stopped_and_says_on_what(asked, folder, tmp_path, monkeypatch):
    """A model that was taken away comes back as it was, and the others are left alone."""
    check_bank(folder, asked)
    aside = partial(run_tasks, scratch=tmp_path / "scratch")
    monkeypatch.setattr(banks, "run_tasks", aside)
    before, gone = read_bank(folder), folder / "models/seed-2-pair-001b.npz"
    gone.unlink()
    others = {path: path.stat().st_mtime_ns for path in (folder / "models").iterdir()}
    assert record(folder, asked, Engine(), hours=0) == 1 and not gone.exists()
    assert record(folder, asked, Engine()) == 0
    gone.unlink()
    assert record(folder, asked, Engine(), hours=0) == 0, "its task was finished before"
    after = read_bank(folder)
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert np.allclose(after.losses, before.losses, atol=1e-4)
    assert set(after.models.name) == {model.name for model in asked.plan}
    made = after.models.set_index("name").loc[gone.stem]
    assert made.torch and made.processor and made.code and made.seconds > 0
    assert len(after.queries) == 5 and len(after.facts["asked"]) == 5 + 2 + 2
    small = after.drawn("seed-1-pair-000a")
    assert small.shape == (5, 3, 32, 32) and small.dtype == np.uint8
    gone.unlink()
    otherwise = replace(asked, facts=asked.facts | {"of": "2.0 in place of 2"})
    assert record(folder, otherwise, Engine()) == 0
    assert gone.stem in read_bank(folder).models.name.tolist(), "it is of the bank's one name"


def test_recorded_halves_are_trained_again(asked, folder, monkeypatch, tmp_path) -> None:
    bank = read_bank(folder)
    name, off = replayed(bank, asked.shared, 2)
    assert name in set(bank.models.name) and off < 1e-4
    again = audited(bank, asked, 3, Engine())
    assert again.facts["correlation"] > 0.999 and again.facts["largest"] < 1e-3
    assert again.facts["another seed"] < 0.999 and len(again.trained) == 9
    queries = asked.questions.queries
    names = [f"new {name}" if n < 2 else name for n, name in enumerate(queries.names)]
    questions = replace(asked.questions, queries=replace(queries, names=names))
    fewer = replace(asked, questions=questions)
    assert shared_pictures(bank, asked) == ([*range(9)], [*range(9)])
    assert shared_pictures(bank, fewer) == ([*range(2, 9)], [*range(2, 9)])
    strange = replace(bank, facts=bank.facts | {"asked": ["none"] * 9})
    with pytest.raises(ValueError, match="asked about 3 of this study's pic.*|expected 3 or more"):
        audited(replace(strange, queries=bank.queries.assign(name="none")), asked, 3, Engine())
    other = replace(bank, training=bank.training * 1.01)
    with pytest.raises(ValueError, match=f"{name}.npz: trained again, step 0 has the loss"):
        replayed(other, asked.shared, 2)


def test_a_bank_of_another_study_is_refused_by_what_differs(asked, folder) -> None:
    facts = json.loads((folder / "bank.json").read_text())

    def refused(match: str, queries: bool = True, **changes) -> None:
        (folder / "bank.json").write_text(json.dumps({**facts, **changes}))
        with pytest.raises(ValueError, match=f"bank.json is of another study: {match}"):
            check_bank(folder, asked, queries)

    recipe = facts["recipe"] | {"steps": 7}
    refused("steps is 6, recorded was 7", recipe=recipe)
    refused("timesteps is .300, 700., recorded was .500.", False, timesteps=[500])
    refused("latents is .*, recorded was 'x'", latents="x")
    check_bank(folder, asked, queries=False)  # other queries are not judged, the rest is
    (folder / "bank.json").unlink()
    with pytest.raises(FileNotFoundError, match="set retrain.bank: null to train a bank"):
        check_bank(folder, asked)
