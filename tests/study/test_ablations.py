"""Ablations: the grid is sound, the table tells what ran and what did not, and DVC runs a choice in
its own workspace."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML
from studies import called, dvc, read, study_in

from abu import ROOT
from abu.diffusion.noise import stream
from abu.judge.lds import lds
from abu.report.ablations import MEASURES, markdown
from abu.study.ablated import COLUMNS, STUDY, UNLEARN, beside, table
from abu.study.ablations import STAGES, commands, experiments, rows
from abu.study.caching import SIZES, spread

PARAMS, GRID = read(ROOT / "params.yaml"), read(ROOT / "benchmarks/ablations.yaml")
VARIED = {
    "weights": {"cache.weights"},
    "curvature": {"unlearn.curvature"},
    "steps": {"unlearn.steps"},
    "step size": {"unlearn.rise"},
    "timesteps": {"unlearn.every", "unlearn.gradient_draws"},
    "captions": {"cache.captions", "cache.spread"},
    "flips": {"cache.flips", "unlearn.flips_reduce"},
}

PLAIN_CACHE = {"cache.curvature": "diagonal", "cache.store": 0}


def test_the_grid_changes_one_factor_of_parameters_that_exist() -> None:
    assert set(GRID) == set(VARIED)
    for row in rows(GRID):
        for section, name in (key.split(".") for key in row.overrides):
            assert name in PARAMS[section]
        plain = row.overrides.keys() & PLAIN_CACHE.keys()
        assert row.overrides.keys() - plain <= VARIED[row.factor]
        assert {key: row.overrides[key] for key in plain} in ({}, PLAIN_CACHE)
        assert bool(plain) == any(key.startswith("cache.") for key in row.overrides)
    for values in GRID.values():
        assert sum(not overrides for overrides in values.values()) == 1, "one default"
        assert len({json.dumps(overrides) for overrides in values.values()}) == len(values)
    names = [row.name for row in rows(GRID)]
    assert len(set(names)) == len(names)


def test_the_defaults_are_the_study() -> None:
    default = {row.factor: row.value for row in rows(GRID) if not row.overrides}
    cache, unlearn = PARAMS["cache"], PARAMS["unlearn"]
    assert default == {
        "weights": cache["weights"],
        "curvature": unlearn["curvature"],
        "steps": str(unlearn["steps"]),
        "step size": "as tuned",
        "timesteps": str(len(spread(len(cache["timesteps"]), unlearn["every"]))),
        "captions": f"{cache['captions']} in turn",
        "flips": unlearn["flips_reduce"] if cache["flips"] else "none",
    }
    assert [unlearn[name] for name in SIZES] == [None] * 3 and cache["spread"]


def test_stages_are_those_of_the_trained_model() -> None:
    for stage in STAGES:
        name, at, system = stage.partition("@")
        assert ("foreach" in read(ROOT / "dvc.yaml")["stages"][name]) == bool(at)
        assert system in ("", "base")


GIVEN = {
    "steps": {1: {}, 3: {"unlearn.steps": 3}, 10: {"unlearn.steps": 10}},
    "flips": {"none": {}, "max": {"cache.flips": True}},
}
MISSING = {"results/influence/base/metrics.json": {"error": {"type": "FileNotFoundError"}}}


def run(name: str, state: str, **metrics) -> dict:
    """An experiment as ``dvc exp show --json`` prints it."""
    files = {UNLEARN: {"data": metrics}} | MISSING
    revision = {"rev": "5ca1ab1e", "data": {"metrics": files}}
    return {"revs": [revision], "executor": {"state": state}, "name": name}


def shown(*runs: dict) -> list[dict]:
    unlearn = {"own_recall": 0.5, "own_recall_se": 0.125, "others_rise": 0.25}
    unlearn["relative_norm"] = 0.05
    study = run("", "success", **unlearn)["revs"][0]
    workspace = study | {"rev": "workspace", "experiments": None}
    return [workspace, study | {"experiments": list(runs)}]


def test_a_mapping_is_refused_since_dvc_would_merge_it() -> None:
    grid = {"groups": {"apart": {"retrain.groups": {}}, "together": {}}}
    with pytest.raises(ValueError, match=r"groups apart gives .'retrain.groups'. a mapping, which"):
        commands(grid, {})


def test_table_by_hand() -> None:
    runs = [
        run("ablation-steps-3", "success", own_recall=0.75, others_rise=0.5),
        run("ablation-steps-10", "failed", own_recall=0.5),
        run("somebody-else", "success", own_recall=1.0),
    ]
    seconds = {STUDY: 8.0, "ablation-steps-3": 9.0}
    study = {"lds": 0.5, "low": 0.25, "high": 0.75}
    three = {"lds": 0.75, "low": 0.5, "high": 1.0, "difference": 0.25, "least": 0.125, "most": 0.5}
    three |= {"p_holm": 0.01, "apart": True}
    judged = pd.DataFrame([study, three], index=[STUDY, "ablation-steps-3"])
    found = table(GIVEN, experiments(shown(*runs)), seconds, judged)
    assert {metric for metric, _ in MEASURES.values()} <= set(COLUMNS) == set(found.columns)
    assert found.state.tolist() == ["ran", "ran", "failed", "ran", "not run"]
    assert found.loc["steps"].own_recall.iloc[:2].tolist() == [0.5, 0.75]
    assert found.loc["steps"].default.tolist() == [True, False, False]
    assert found.lds.iloc[:2].tolist() == [0.5, 0.75]
    head = "LDS | beside the study | own pictures found | others' rise | relative norm | s a query"
    assert markdown(found).splitlines() == [
        f"|  |  | {head} |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| steps | 1 (default) | 0.5 (0.25 to 0.75) |  | 0.5 ± 0.12 | **0.25** | 0.05 | 8 |",
        "|  | 3 | **0.75 (0.50 to 1.00)** | **+0.25 (+0.12 to +0.50)** | **0.75** | 0.5 |  | 9 |",
        "|  | 10 | failed |  |  |  |  |  |",
        "| flips | none (default) | 0.5 (0.25 to 0.75) |  | 0.5 ± 0.12 | 0.25 | 0.05 | 8 |",
        "|  | max | not run |  |  |  |  |  |",
    ]


def test_choices_stand_beside_the_study_on_the_same_pairs() -> None:
    draw = lambda *name: stream(*name).standard_normal((6, 12))
    halves = stream("halves").random((8, 12)) < 0.5
    kinds, study = ["plain"] * 6, draw("study")
    measured = -(study @ (2.0 * halves - 1).T).T  # the study is right
    scores = {STUDY: study, "same": study, "other": draw("other")}
    found = beside(scores, halves, measured, kinds)
    assert found.lds[[STUDY, "same"]].tolist() == [1, 1] and pd.isna(found.difference[STUDY])
    assert found.difference["same"] == 0 and not found.apart["same"]
    other = lds(scores["other"], halves, measured).mean()
    assert found.lds["other"] == pytest.approx(other)
    assert found.difference["other"] == pytest.approx(other - 1) and found.apart["other"]
    assert beside({STUDY: study}, halves, measured, kinds).difference.isna().all()


def test_a_failed_experiment_is_shown_as_failed_without_the_numbers_that_it_carries() -> None:
    failed, ran = (
        run("ablation-steps-3", state, own_recall=0.75) for state in ("failed", "success")
    )
    found = table(GIVEN, experiments(shown(failed)), {})
    line = found.loc[("steps", "3")]
    assert line.state == "failed" and line.drop(["default", "state"]).isna().all()
    assert "|  | 3 | failed |" in markdown(found)
    for order in ((failed, ran), (ran, failed)):
        found = table(GIVEN, experiments(shown(*order)), {})
        assert found.loc[("steps", "3")].own_recall == 0.75


def test_an_ablation_that_the_grid_lacks_is_an_error() -> None:
    known = experiments(shown(run("ablation-cotangents-4", "success")))
    with pytest.raises(KeyError, match=r"ablation-cotangents-4.*\['flips', 'steps'\]"):
        table(GIVEN, known, {})


def test_what_has_run_or_waits_is_not_queued_again() -> None:
    runs = run("ablation-steps-3", "success"), run("ablation-steps-10", "failed")
    known = experiments(shown(*runs))
    queued = commands(GIVEN, known)
    names = [command[command.index("--name") + 1] for command in queued]
    assert names == ["ablation-steps-10", "ablation-flips-max"]
    assert queued[1][-3:] == ["--set-param=cache.flips=true", *STAGES]


@pytest.mark.slow
def test_ablations_run_in_workspaces_of_their_own(tiny: Path, tmp_path: Path) -> None:
    who = [f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
    call = lambda *words: called(tmp_path, *words, **dict.fromkeys(who, "a@example.org"))
    files = lambda: [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    results = lambda: {file: file.read_bytes() for file in files()}
    call("git", "init", "--quiet")
    study_in(tmp_path)
    dvc(tmp_path, f"config cache.dir {tiny / '.dvc/cache'}")
    shutil.copy(tiny / "dvc.lock", tmp_path)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    shutil.copytree(tiny / "results", tmp_path / "results", dirs_exist_ok=True)
    (tmp_path / "benchmarks").mkdir()
    steps = {2: {}, 1: {"unlearn.steps": 1}}
    curvature = {"diagonal": {}, "none": {"unlearn.curvature": "none"}}
    grid = {"steps": steps, "curvature": curvature}
    YAML().dump(grid, tmp_path / "benchmarks/ablations.yaml")
    call("git", "add", ".")
    call("git", "commit", "--quiet", "--message", "study")
    before = results()
    call(sys.executable, "-m", "abu.study.ablations")
    assert results() == before, "the study itself is as it was"
    assert call("git", "status", "--porcelain") == ""
    call(sys.executable, "-m", "abu.study.run", "ablations")
    path = tmp_path / "results/ablations/table.csv"
    found = pd.read_csv(path, index_col=["factor", "value"])
    assert found.state.tolist() == ["ran", "ran", "ran", "failed"]
    assert found.seconds.iloc[:3].gt(0).all()
    assert (
        found.loc[("curvature", "none"), "lds":].isna().all() and found.lds.iloc[:3].notna().all()
    )
    chosen = json.loads((tiny / "results/tune/base/chosen.json").read_text())["abu"]
    assert chosen["rise"] in (0.001, 0.002)
    lengths = found.relative_norm["steps"]
    assert lengths["1"] != lengths["2"], "two steps do not go straight on"
    assert found.difference["steps"].notna().tolist() == [False, True], "scores of an experiment"
    claims = pd.read_csv(path.with_name("claims.csv"))
    assert set(claims.verdict) == {"not asked"}, "the small grid has other choices"
