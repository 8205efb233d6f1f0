"""Ablations: the grid is sound, the table tells what ran and what did not, and DVC runs a choice in its own workspace."""

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from abu.study.ablations import STAGES, commands, experiments, markdown, rows, table

ROOT = Path(__file__).resolve().parents[1]
read = YAML(typ="safe").load
PARAMS, GRID = read(ROOT / "params.yaml"), read(ROOT / "benchmarks/ablations.yaml")
VARIED = {
    "weights": {"cache.weights"}, "curvature": {"unlearn.curvature"}, "steps": {"unlearn.steps"},
    "step size": {"unlearn.relative_norm", "unlearn.alpha"}, "timesteps": {"cache.timesteps"},
    "captions": {"cache.captions", "cache.spread"}, "flips": {"cache.flips", "unlearn.flips_reduce"},
}  # fmt: skip
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
    for factor, values in GRID.items():
        assert sum(not overrides for overrides in values.values()) == 1, "one default"
        assert len({json.dumps(overrides) for overrides in values.values()}) == len(values)
    names = [row.name(target) for row in rows(GRID) for target in STAGES]
    assert len(set(names)) == len(names)


def test_the_defaults_are_the_study() -> None:
    default = {row.factor: row.value for row in rows(GRID) if not row.overrides}
    cache, unlearn = PARAMS["cache"], PARAMS["unlearn"]
    flips = unlearn["flips_reduce"] if cache["flips"] else "none"
    expected = [cache["weights"], unlearn["curvature"], unlearn["steps"], "as tuned", len(cache["timesteps"]), cache["captions"], flips]
    assert list(default.values()) == [str(value) for value in expected]
    assert unlearn["relative_norm"] is unlearn["alpha"] is None


GIVEN = {"steps": {1: {}, 3: {"unlearn.steps": 3}, 10: {"unlearn.steps": 10}}, "flips": {"none": {}, "max": {"cache.flips": True}}}


def run(name: str, state: str, **metrics) -> dict:
    """An experiment as ``dvc exp show --json`` prints it."""
    files = {f"results/{stage}/metrics.json": {"data": data} for stage, data in metrics.items()}
    data = {"metrics": files | {"results/influence/metrics.json": {"error": {"type": "FileNotFoundError"}}}}
    return {"revs": [{"rev": "5ca1ab1e", "data": data}], "executor": {"state": state}, "name": name}


def shown(*runs: dict) -> list[dict]:
    unlearn = {"own_recall": 0.5, "own_recall_se": 0.125, "others_rise": 0.25, "relative_norm": 0.05}
    judge = {"k=4": {"abu": {"loss": 0.5}}, "k=16": {"abu": {"loss": 2.0, "loss_se": 0.25}, "random": {"loss": 9.0}}, "lds": {}}
    study = run("", "success", unlearn=unlearn, evaluate=judge)["revs"][0]
    return [study | {"rev": "workspace", "experiments": None}, study | {"experiments": list(runs)}]


def test_table_by_hand() -> None:
    known = experiments(shown(
        run("ablation-steps-3", "success", unlearn={"own_recall": 0.75, "others_rise": 0.5}, evaluate={"k=4": {"abu": {"loss": 7.0}}}),
        run("ablation-steps-10", "failed", unlearn={"own_recall": 0.5}),
        run("ablation-steps-10-evaluate", "success", unlearn={"own_recall": 0.25, "others_rise": 0.125}, evaluate={"k=4": {"abu": {"loss": 3.0}}}),
        run("somebody-else", "success", unlearn={"own_recall": 1.0}),
    ))  # fmt: skip
    found = table(GIVEN, known, {"workspace": 8.0, "ablation-steps-3": 9.0})
    assert found.state.tolist() == ["ran", "ran", "ran", "ran", "not run"]
    assert found.loc["steps"].own_recall.tolist() == [0.5, 0.75, 0.25] and found.loc["steps"].default.tolist() == [True, False, False]
    assert found.judge.iloc[:3].isna().tolist() == [False, True, False], "an experiment that the judge did not see carries the study's"
    assert found.judge.iloc[0] == 2.0 and found.seconds.iloc[:2].tolist() == [8.0, 9.0]
    assert markdown(found).splitlines() == [
        "|  |  | own pictures found | others' rise | relative norm | s a query | ΔL of the judge |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| steps | 1 (default) | 0.5 ± 0.12 | 0.25 | 0.05 | 8 | 2 ± 0.25 |",
        "|  | 3 | **0.75** | 0.5 |  | 9 |  |",
        "|  | 10 | 0.25 | **0.125** |  |  | **3** |",
        "| flips | none (default) | 0.5 ± 0.12 | 0.25 | 0.05 | 8 | 2 ± 0.25 |",
        "|  | max | not run |  |  |  |  |",
    ]


def test_a_failed_experiment_is_shown_as_failed_without_the_numbers_that_it_carries() -> None:
    failed, ran = (run("ablation-steps-3", state, unlearn={"own_recall": 0.75}) for state in ("failed", "success"))
    line = table(GIVEN, experiments(shown(failed)), {}).loc[("steps", "3")]
    assert line.state == "failed" and line.drop(["default", "state"]).isna().all()
    assert "|  | 3 | failed |" in markdown(table(GIVEN, experiments(shown(failed)), {}))
    for order in ((failed, ran), (ran, failed)):
        assert table(GIVEN, experiments(shown(*order)), {}).loc[("steps", "3")].own_recall == 0.75


def test_an_ablation_that_the_grid_lacks_is_an_error() -> None:
    with pytest.raises(KeyError, match="ablation-cotangents-4.*'steps', 'flips'|ablation-cotangents-4.*'flips', 'steps'"):
        table(GIVEN, experiments(shown(run("ablation-cotangents-4", "success"))), {})


def test_what_has_run_or_waits_is_not_queued_again() -> None:
    known = experiments(shown(run("ablation-steps-3", "success"), run("ablation-steps-10", "failed")))
    queued = commands(GIVEN, "unlearn", known)
    assert [command[command.index("--name") + 1] for command in queued] == ["ablation-steps-10", "ablation-flips-max"]
    assert queued[1][-4:] == ["-S", "cache.flips=true", "cache", "unlearn"]
    assert len(commands(GIVEN, "evaluate", known)) == 3 and not any("tune" in command for command in commands(GIVEN, "evaluate", {}))
    with pytest.raises(ValueError, match="target is 'tune'; expected one of"):
        commands(GIVEN, "tune", {})
