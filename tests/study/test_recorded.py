"""What is recorded in data/ belongs to params.yaml, and to each other; executed notebooks are made
for readers."""

import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from studies import read

from abu import ROOT
from abu.data.queries import name_queries
from abu.judge.bank import SIDES, plan_bank, read_bank
from abu.study.outputs import MOST

PARAMS = read(ROOT / "params.yaml")
EXECUTED = sorted((ROOT / "results").glob("*.ipynb"))
TRAINED = json.loads((ROOT / "data/model/train.json").read_text())


@pytest.fixture(scope="module")
def bank():
    return read_bank(ROOT / PARAMS["retrain"]["bank"])


def test_the_model_is_of_the_recipe() -> None:
    own = {name: PARAMS["train"][name] for name in TRAINED["recipe"] if name != "seed"}
    assert TRAINED["recipe"] == own | {"seed": PARAMS["common"]["seed"]}
    assert PARAMS["train"]["unet"].items() <= TRAINED["config"].items()
    assert len(TRAINED["heldout_ids"]) == PARAMS["train"]["heldout"]
    losses = np.load(ROOT / "data/model/training.npy")
    assert len(losses) == PARAMS["train"]["steps"] and np.isfinite(losses).all()


def test_the_images_are_a_hundred_concepts_by_three_hands() -> None:
    images = pd.DataFrame(json.loads((ROOT / "data/captions.json").read_text())["images"])
    chosen = images[images.set.isin(PARAMS["prepare"]["keep"]["set"])]
    assert sorted(chosen.id) == sorted(TRAINED["train_ids"] + TRAINED["heldout_ids"])
    assert chosen.concept.nunique() == 100 and (chosen.groupby("concept").size() == 3).all()
    aside = {"panda", "frog", "koala", "pig face", "strawberry"}
    assert aside <= set(images.concept) and not aside & set(chosen.concept)


def test_words_of_prompts_occur_in_captions_that_are_scored() -> None:
    content = json.loads((ROOT / "data/captions.json").read_text())
    ids, most = set(TRAINED["train_ids"]), PARAMS["cache"]["captions"]
    captions: dict = {}
    for each in content["annotations"]:
        captions.setdefault(each["image_id"], []).append(each["caption"])
    scored = " ".join(" ".join(captions[id][:most]) for id in ids).replace(",", " ").split()
    asked = [p for part in ("prompts", "tuning") for p in PARAMS["generate"][part].values()]
    words = {word for prompts in asked for prompt in prompts for word in prompt.split()}
    assert words <= set(scored), words - set(scored)


def test_queries_are_enough_of_every_kind() -> None:
    asked = PARAMS["generate"]
    counts, tuning = ({k: len(v) for k, v in asked[n].items()} for n in ("prompts", "tuning"))
    assert sum(counts.values()) >= 64 and min(counts.values()) >= 8 and counts["plain"] >= 24
    assert sum(tuning.values()) >= 16 and set(tuning) == set(counts)


def test_the_bank_is_of_the_model_and_the_queries(bank) -> None:
    assert bank.facts["recipe"] == TRAINED["recipe"] and bank.facts["config"] == TRAINED["config"]
    assert bank.ids == TRAINED["train_ids"]
    named = name_queries(PARAMS["generate"]["prompts"], PARAMS["generate"]["tuning"])
    assert named.equals(bank.queries[named.columns])
    assert len(bank.facts["asked"]) == len(named) + PARAMS["retrain"]["heldin"] + 12


def test_models_of_the_bank_are_those_of_the_plan(bank) -> None:
    asked = PARAMS["retrain"]
    assert TRAINED["recipe"]["seed"] not in asked["pair_seeds"] + asked["full_seeds"]
    pairs = dict(zip(asked["pair_seeds"], asked["pairs"]))
    plan = {model.name: model for model in plan_bank(bank.ids, pairs, asked["full_seeds"])}
    assert set(bank.models.name) <= plan.keys()
    for row, name in enumerate(bank.models.name):
        assert bank.removed(row) == [id for id in bank.ids if id in set(plan[name].removed)]
    halves, differences, numbers = bank.pairs(asked["pair_seeds"][0])
    assert len(numbers) >= 3 and (halves.sum(1) == len(bank.ids) // 2).all()
    assert np.abs(differences).max() < 2 and len(SIDES) == 2
    assert (bank.training[:, -30:].mean(1) < 0.5 * bank.training[:, :30].mean(1)).all()
    needed = {"seconds", "processor", "threads", "code", "torch", "diffusers", "numpy", "python"}
    assert needed <= set(bank.models.columns) and not bank.models[list(needed)].isna().any(
        axis=None
    )


def test_no_pair_and_no_query_both_chooses_and_reports(bank) -> None:
    judged = json.loads((ROOT / "results/evaluate/metrics.json").read_text())
    seed = bank.pair_seeds[0]
    choosing, reporting = (bank.pairs(seed, tuning)[2] for tuning in (True, False))
    assert not set(choosing) & set(reporting) and len(choosing) >= 3
    assert judged["pairs"] == len(reporting)
    assert judged["queries"] == (~bank.queries.tuning).sum()


def test_what_removals_did_is_what_recorded_models_answer(bank) -> None:
    squares, plan = read_bank(ROOT / "data/latin"), pd.read_csv(ROOT / "data/latin/plan.csv")
    (whole,) = bank.models.index[(bank.models.seed == 3) & (bank.models.pair < 0)]
    told = pd.read_csv(ROOT / "results/evaluate/latin.csv").query("measure == 'loss'")
    place = {name: number for number, name in enumerate(squares.queries.name)}
    models = {name: row for row, name in enumerate(squares.models.name)}
    first = "k == 8 and not besides"
    rows = plan[plan.model.isin(models)].query(first)
    for said in told[told.kind == "all"].query(first).itertuples():
        rises = [
            squares.losses[models[row.model], place[row.query]].mean()
            - bank.losses[whole, place[row.query]].mean()
            for row in rows[rows.method == said.method].itertuples()
        ]
        assert len(rises) == 32 and np.mean(rises) == pytest.approx(said.rise, rel=1e-3)


def test_the_store_in_git_holds_recorded_data_alone() -> None:
    """``dvc push`` without ``data`` would put caches there, of which one has 170 MB."""
    sizes = {path: path.stat().st_size for path in (ROOT / ".dvc/store").rglob("*")}
    assert max(sizes.values()) < 10e6, max(sizes, key=lambda path: sizes[path])
    (data,) = read(ROOT / "data.dvc")["outs"]
    listed = json.loads(stored(data["md5"]).read_text())
    asked = {stored(data["md5"]), *(stored(entry["md5"]) for entry in listed)}
    assert {path for path in sizes if path.is_file()} == asked, "and nothing of earlier data"


def stored(digest: str) -> Path:
    """Where the store in git keeps what DVC calls by a digest."""
    return ROOT / ".dvc/store/files/md5" / digest[:2] / digest[2:]


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.stem)
def test_an_executed_notebook_is_made_for_readers(path) -> None:
    """Small enough for a git host, and to read; short tables, no arrays, warnings, progress or
    traces."""
    assert path.stat().st_size <= MOST
    cells = nbformat.read(path, 4).cells
    assert len(cells) <= 12
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    for output in outputs:
        data = output.get("data", {})
        known = {"text/plain", "text/html", "text/markdown", "image/png"}
        assert data.keys() <= known, "no widgets"
        table = data.get("text/html", "")
        assert table.partition("<tbody>")[2].count("<tr") <= 20 and " rows × " not in table
        text = output.get("text", "") + data.get("text/plain", "") + table
        unread = re.search(r"\b(array|tensor)\(|\d\.\d{8}|Warning|it/s|\r", text)
        assert unread is None, f"{unread} in {text[:200]}"


def test_what_seeds_say_of_styles_is_what_their_rises_say() -> None:
    """``benchmarks/left_out.py``, by a loop over queries."""
    rises = pd.read_csv(ROOT / "benchmarks/left-out-rises.csv").query("kind == 'style'")
    found = pd.read_csv(ROOT / "benchmarks/left-out.csv").set_index(["groups", "method"])
    first, second = (
        part.pivot(index="query", columns="group", values="rise")
        for _, part in rises.groupby("seed")
    )
    assert first.shape == second.shape == (found.loc["style"].queries.iloc[0], 3)
    assert (first.mean() > 0).all() and (second.mean() > 0).all()  # what is gone is missed
    said = found.loc[("style", "the other seed's rises")]
    each = [spearmanr(first.loc[query], second.loc[query]).statistic for query in first.index]
    assert said.agreement == pytest.approx(np.mean(each), abs=1e-3)
    assert said["first"] == pytest.approx((first.idxmax(1) == second.idxmax(1)).mean(), abs=1e-3)
