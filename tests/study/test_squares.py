"""The tiny study's Latin squares: planned once, recorded as the bank is, read back and refused."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from studies import read

from abu.judge.bank import read_bank
from abu.judge.latin import answers, models_of, rises, summary
from abu.study import banks
from abu.study.audits import replayed
from abu.study.banks import Asked, asked_of, record
from abu.study.engines import Engine
from abu.study.latin import planned, read_plan, record_squares, recorded_squares, write_plan
from abu.study.tasks import run_tasks

OPTIONS = {"methods": ["abu", "d-trak", "right"], "squares": [[1, False], [2, True]]}
OPTIONS |= {"queries": 2, "group": 2, "seed": 3}


def embed(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.flatten(1)


def latin_of(folder: Path) -> dict:
    return OPTIONS | {"folder": str(folder / "latin")}


@pytest.fixture
def asked(tiny: Path, monkeypatch, tmp_path) -> Asked:
    monkeypatch.chdir(tiny)
    monkeypatch.setattr(banks, "run_tasks", partial(run_tasks, scratch=tmp_path / "scratch"))
    return asked_of(read(Path("params.yaml"))["retrain"], "cpu")[1]


def test_a_plan_comes_back_as_it_was_written(asked, tmp_path) -> None:
    plan = planned(OPTIONS, asked)
    write_plan(tmp_path, plan)
    again = read_plan(tmp_path)
    assert again.to_dict("records") == plan.to_dict("records") and len(plan) == 2 * 3 * 2
    removed = {id for row in (*plan.images, *plan.also) for id in row}
    assert removed <= set(asked.shared.train_ids)
    with pytest.raises(FileNotFoundError, match="plan.csv"):
        read_plan(tmp_path / "none")
    with pytest.raises(ValueError, match="retrain.latin.methods lacks 'd-trak', with which"):
        planned(OPTIONS | {"methods": ["abu", "random"]}, asked)


def test_squares_are_recorded_replayed_and_judged(asked, tmp_path) -> None:
    plan = planned(OPTIONS, asked)
    models = models_of(plan, OPTIONS["seed"])
    assert recorded_squares(latin_of(tmp_path), asked) is None
    squares = replace(asked, plan=models)
    assert record(tmp_path / "latin", squares, Engine(), hours=0) == len(models) == 6
    assert recorded_squares(latin_of(tmp_path), asked) is None, "no model so far"
    assert record(tmp_path / "latin", squares, Engine()) == 0
    latin, bank = (
        recorded_squares(latin_of(tmp_path), asked),
        read_bank(Path("results/retrain/bank")),
    )
    assert replayed(latin, asked.shared, 2)[1] < 1e-4
    with pytest.raises(ValueError, match="ids is .*, recorded was .*and retrain.latin: null"):
        recorded_squares(latin_of(tmp_path), replace(asked, facts=asked.facts | {"ids": [0]}))
    whole = bank.models.index[(bank.models.seed == OPTIONS["seed"]) & (bank.models.pair < 0)]
    measured, none = answers(plan, latin, bank, embed)
    row, place = plan.iloc[0], list(latin.queries.name)
    model = latin.models.index[latin.models.name == row.model][0]
    loss = lambda of, at: of.losses[at, place.index(row["query"])].mean(dtype=np.float64)
    assert measured.loss[row.model, row["query"]] == pytest.approx(loss(latin, model))
    assert none.loss[row["query"]] == pytest.approx(loss(bank, whole[0]))
    drawn = [
        of.drawn(name)[place.index(row["query"])] / 255
        for of, name in ((latin, row.model), (bank, "seed-3"))
    ]
    assert measured.mse[row.model, row["query"]] == pytest.approx(
        ((drawn[0] - drawn[1]) ** 2).mean()
    )
    table = summary(rises(plan, measured, none), "d-trak")
    assert len(table) == 2 * 3 and np.isfinite(table.rise).all()


def test_a_plan_of_other_options_is_refused(asked, tmp_path) -> None:
    latin = latin_of(tmp_path)
    assert record_squares(latin, asked, Engine(), hours=0) == (0, 6)
    assert record_squares(latin, asked, Engine(), hours=0) == (0, 6)
    other = latin | {"seed": OPTIONS["seed"] + 1}
    for asks in (recorded_squares, lambda *given: record_squares(*given, Engine())):
        with pytest.raises(ValueError, match="options.json: squares are planned by {'seed': 3}, "):
            asks(other, asked)


def test_models_of_another_plan_are_refused(asked, tmp_path) -> None:
    plan = planned(OPTIONS, asked)
    models = models_of(plan, OPTIONS["seed"])[:1]
    record(tmp_path, replace(asked, plan=models), Engine())
    latin, bank = read_bank(tmp_path), read_bank(Path("results/retrain/bank"))
    name = models[0].name
    other = plan.assign(images=plan.images.map(lambda ids: ids[:0]))
    with pytest.raises(ValueError, match=f"{name} went without other images than plan.csv says"):
        answers(other, latin, bank, embed)
    renamed = replace(bank, queries=bank.queries.assign(name="another"))
    with pytest.raises(ValueError, match="was not asked about .* of "):
        answers(plan, latin, renamed, embed)
    seedless = replace(bank, models=bank.models.assign(pair=0))
    with pytest.raises(ValueError, match=r"has models of seeds \[3\]; expected one, of which"):
        answers(plan, latin, seedless, embed)
