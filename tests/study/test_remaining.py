"""How far a run is, against sums by hand."""

import shutil
from pathlib import Path

import pytest

from abu import ROOT
from abu.study.remaining import RECORDED, in_order, seconds_left, where

ORDER = in_order(ROOT)


def test_stages_stand_in_the_order_in_which_they_need_each_other() -> None:
    names = list(dict.fromkeys(stage for stage, _ in ORDER))
    assert names[:3] == ["components", "prepare", "train"] and names[-1] == "report"
    systems = [system for stage, system in ORDER if stage == "cache"]
    assert systems == ["base", "panda", "fluent-3d-faces"] and ("tune", "") in ORDER


def test_what_is_left_goes_by_the_pace_of_what_was_done() -> None:
    expected = {("a", ""): 10.0, ("b", ""): 20.0, ("c", ""): 40.0}
    ahead = [("b", ""), ("c", "")]
    assert seconds_left(ahead, expected, {}) == 60
    assert seconds_left(ahead, expected, {("a", ""): 30.0}) == 180
    assert seconds_left(ahead, expected, {("b", ""): 1.0, ("z", ""): 9.0}) == 60, (
        "of an earlier run"
    )
    assert seconds_left(ahead, {}, {("a", ""): 30.0}) is None


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for name in ("params.yaml", "dvc.yaml", str(RECORDED)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_a_line_says_where_a_run_is(study: Path) -> None:
    rows = [line.split(",") for line in (study / RECORDED).read_text().splitlines()[1:]]
    assert {tuple(row[:2]) for row in rows} == set(ORDER), "a whole run is recorded"
    whole = sum(float(row[2]) for row in rows)
    first, last = where(*ORDER[0], study), where(*ORDER[-1], study)
    assert first.startswith(f"stage 1 of {len(ORDER)}, components; if all that follows runs, ")
    assert first.endswith(f" {whole / 60:.0f} min are left")
    assert last.startswith(f"stage {len(ORDER)} of {len(ORDER)}, report;")
    assert where("plan", "", study) == ""


def test_of_other_data_only_a_plan_knows(study: Path) -> None:
    params = study / "params.yaml"
    params.write_text(params.read_text().replace("data/captions.json", "own/captions.json"))
    assert where("prepare", "", study) == f"stage 2 of {len(ORDER)}, prepare"
    plan = study / "results/plan/plan.csv"
    plan.parent.mkdir(parents=True)
    plan.write_text("stage,system,seconds,memory\nprepare,,600,1\ntrain,,1200,1\n")
    assert where("prepare", "", study).endswith("30 min are left")
    assert where("train", "", study).endswith("20 min are left")
