"""The tiny study: every stage runs, what comes of it, and what an edit makes stale."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from studies import dvc, named, read, run_stage
from torch.testing import assert_close

from abu.diffusion.components import load_components


def test_every_stage_ran_and_nothing_is_stale(tiny: Path) -> None:
    assert json.loads(dvc(tiny, "status --json")) == {}
    stages, systems = read(tiny / "dvc.yaml")["stages"], read(tiny / "params.yaml")["systems"]
    runs = [
        (name, system)
        for name, stage in stages.items()
        if name != "sources"  # asked for by common.watch
        for system in (systems if "foreach" in stage else [""])
    ]
    took = pd.read_csv(tiny / "results/stages.csv", keep_default_na=False)
    assert sorted(zip(took.stage, took.system)) == sorted(runs)
    assert (took[["seconds", "peak_bytes", "disk_bytes"]] > 0).all(axis=None)


def test_scores_carry_ids_and_every_method_is_judged(tiny: Path) -> None:
    results, params = tiny / "results", read(tiny / "params.yaml")
    load = lambda name: json.loads((results / name).read_text())
    scores, trained = (
        pd.read_parquet(results / "unlearn/base/scores.parquet"),
        load("train/train.json"),
    )
    assert set(scores.image_id) == set(trained["train_ids"])
    assert not set(scores.image_id) & set(trained["heldout_ids"])
    assert scores.groupby("query")["rank"].max().eq(len(trained["train_ids"])).all()
    ours = {"abu", "abu-linear", "abu-gauss-newton", "abu-gn", "abu-plus-gn", "abu-plus"}
    every = pd.read_parquet(results / "compare/base/scores.parquet")
    named = {*params["compare"]["methods"], *params["tune"]["products"]}
    assert set(every.method) == ours | named
    assert every.groupby("method").size().nunique() == 1
    models = pd.read_csv(results / "retrain/models.csv")
    assert models.ran.all()
    assert len(list((results / "retrain/bank/models").iterdir())) == 2 * (4 + 3) + 1
    judged = load("evaluate/metrics.json")
    own = {"bank", "queries", "pairs", "pairs_compared", "lds", "ceiling", "ceiling_low"}
    own |= {"ceiling_high", "seed_correlation", "seed_pairs"}
    assert set(judged) == {"floor", "k=1", "k=2"} | own
    assert judged["queries"] == 4 and judged["pairs"] == judged["seed_pairs"] == 3
    assert set(judged["lds"]) == set(every.method)
    assert set(judged["lds"]["abu"]) == {"mean", "low", "high", "raw"}
    removed = pd.read_csv(results / "evaluate/latin.csv")
    assert set(removed.method) == set(params["retrain"]["latin"]["methods"])
    assert set(removed.measure) == {"loss", "mse", "clip"} and removed["queries"].max() == 2
    assert set(load("train/metrics.json")["hit"]) == {"mean", "low", "high"}
    methods = params["changes"]["customized"]["compare"]["methods"]
    assert set(load("exemplars/metrics.json")) == {"abu", "chance", *methods}
    assert "customized: panda" in (results / "report/index.html").read_text()
    cells = nbformat.read(results / "report.ipynb", 4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3


def edited(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    "module, stale, kept",
    [
        (
            "core/unlearn.py",
            {"cache@base", "cache@panda", "tune", "unlearn@base", "localize", "compare@panda"},
            {"prepare", "train", "generate@base", "generate@panda", "customize@panda"},
        ),
        ("report/page.py", {"report"}, None),
        ("study/run.py", {"report"}, None),
    ],
)
def test_a_comment_makes_stale_what_reads_its_room(copy: Path, module, stale, kept) -> None:
    edited(copy / "src/abu" / module, lambda text: text + "# a comment\n")
    found = set(named(dvc(copy, "repro --dry")))
    assert found >= stale and not found & kept if kept else found == stale


@pytest.mark.slow
def test_a_forced_run_changes_no_byte(copy: Path) -> None:
    before = (copy / "dvc.lock").read_bytes()
    dvc(copy, "repro --quiet --force")
    assert (copy / "dvc.lock").read_bytes() == before


@pytest.mark.slow
def test_edit_under_unlearn_reruns_it_and_its_followers_only(copy: Path) -> None:
    change = lambda text: text.replace("  relative_norm: null", "  relative_norm: 0.3")
    edited(copy / "params.yaml", change)
    stale = {"unlearn@base", "localize", "unlearn@panda"}
    assert set(json.loads(dvc(copy, "status --json"))) == stale
    ran = set(named(dvc(copy, "repro")))
    followers = {"influence", "compare@base", "retrain", "evaluate", "exemplars", "report"}
    assert ran == stale | followers, "what is changed for panda overrides the edit: compare@panda"


@pytest.mark.slow
def test_without_a_store_one_pass_serves_every_query(copy: Path) -> None:
    def scores() -> pd.DataFrame:
        table = pd.read_parquet(copy / "results/influence/base/scores.parquet")
        return table.pivot(index=["method", "query"], columns="image_id", values="score")

    before = scores()
    run_stage(copy, "cache", "store=0", "curvature=diagonal")
    run_stage(copy, "influence")
    after = scores()
    assert set(after.index.levels[0]) == {"abu-linear", "abu-gauss-newton", "abu-gn"}
    agree = [np.corrcoef(before.loc[key], after.loc[key])[0, 1] for key in after.index]
    assert min(agree) > 0.9  # the tiny store holds 1024 coordinates of each gradient


@pytest.mark.slow
def test_of_a_text_encoder_the_first_layers_can_be_taken(copy: Path) -> None:
    model = copy / "results/components/model"
    whole = load_components(model)
    tokens, encoder = whole.tokens(["red heart", "alien and skull"]), whole.text_encoder
    hidden = encoder(tokens, output_hidden_states=True).hidden_states
    for layers in (2, 0):
        run_stage(copy, "components", f"text_layers={layers}")
        states = load_components(model).states(tokens)
        assert_close(states, encoder.final_layer_norm(hidden[layers]).detach())
    with pytest.raises(AssertionError, match="text_layers is 4; expected 0 to 3, the layers of"):
        run_stage(copy, "components", "text_layers=4")


@pytest.mark.slow
def test_parts_of_a_drawn_picture_are_asked_about(copy: Path) -> None:
    scores = lambda: pd.read_parquet(copy / "results/localize/scores.parquet")
    tables = [scores()]  # of a composite
    for name in ("left", "right"):
        given = f"prompts=['{{{name}}}']", "relative_norm=0.1"
        run_stage(copy, "localize", "drawn=true", *given)
        tables.append(scores())
    keys = ["composite", "region", "image_id"]
    assert all(table[keys].equals(tables[0][keys]) for table in tables)
    assert not any(a.score.equals(b.score) for a, b in combinations(tables, 2))
    with pytest.raises(AssertionError, match="pairs name .'skull and red heart'.; the queries are"):
        run_stage(copy, "localize", "drawn=true")
