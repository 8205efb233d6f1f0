"""The pipeline is declared truthfully and runs end to end on tiny parameters."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from ruamel.yaml import YAML

from abu.study.keys import imported, reached
from abu.study.run import notebook_of

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
by_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
read = YAML(typ="safe").load
STAGES = {name: stage.get("do", stage) for name, stage in read(ROOT / "dvc.yaml")["stages"].items()}


def code(path: Path) -> str:
    """Python source of a module or a notebook."""
    if path.suffix == ".py":
        return path.read_text()
    return "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code")


ROOMS = ("data", "diffusion", "core", "baselines", "judge")  # whose modules make numbers
REPORT = ("study", "report")


def rooms(notebook: Path) -> set[str]:
    """Rooms of ``src/abu`` that a notebook reaches by its imports, directly or through modules."""
    files = set().union(
        *(reached(ROOT / "src" / Path(*name.split(".")).with_suffix(".py")) for name in imported(code(notebook)) if (ROOT / "src" / Path(*name.split(".")).with_suffix(".py")).is_file())
    )
    return {file.parent.name for file in files if file.parent.name != "abu"}


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_the_rooms_that_its_notebook_reaches(stage: str) -> None:
    found, name = STAGES[stage], notebook_of(stage)
    notebook = ROOT / "notebooks" / f"{name}.ipynb"
    wanted = rooms(notebook) & {*ROOMS, *(REPORT if stage == "report" else ())}
    declared = {dep for dep in found["deps"] if dep.startswith(("src/", "notebooks/"))}
    assert declared == {f"src/abu/{room}" for room in wanted} | {f"notebooks/{name}.ipynb"}
    common = {"common.seed", "common.device", "common.threads", "common.precision"}  # what changes numbers
    parameters = papermill.inspect_notebook(str(notebook))
    models = {"customize": {"common.models.${key}"}, "exemplars": {"common.models"}, "report": {"common.models"}}.get(stage, set())
    assert common - (set() if "precision" in parameters else {"common.precision"}) | {name, stage} | models == set(found["params"])
    assert found["cmd"] == f"python -m abu.study.run {stage}" + (" customized=${key}" if "customized" in parameters and name != stage or name == "customize" else "")


def followers(changed: str) -> set[str]:
    """Stages that an edit in a folder makes stale: that depend on it, or on what such a stage leaves."""
    stale = {name for name, stage in STAGES.items() if changed in stage["deps"]}
    outs = lambda names: {out for name in names for entry in STAGES[name]["outs"] for out in ([entry] if isinstance(entry, str) else entry)}
    below = lambda dep, folders: any(dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/") for out in folders)
    while more := {name for name, stage in STAGES.items() if any(below(dep, outs(stale)) for dep in stage["deps"])} - stale:
        stale |= more
    return stale


def test_an_edit_makes_only_its_followers_stale() -> None:
    """A test holds that rooms are declared truly; this one that they are few: the method trains nothing, the page reruns nothing."""
    assert not followers("src/abu/core") & {"components", "prepare", "train", "generate", "customize"}
    assert followers("src/abu/core") > {"cache", "unlearn", "compare", "evaluate"}
    assert followers("src/abu/report") == followers("src/abu/study") == {"report"}
    assert followers("src/abu/data") == set(STAGES)


@by_notebook
def test_notebook_declares_every_parameter_and_is_stripped(notebook: Path) -> None:
    cells = [c for c in nbformat.read(notebook, 4).cells if c.cell_type == "code"]
    assert not any(c.outputs or c.execution_count for c in cells)
    declared = papermill.inspect_notebook(str(notebook)).keys()
    for params in map(read, (ROOT / "params.yaml", ROOT / "tests" / "params.yaml", *sorted((ROOT / "presets").iterdir()))):
        own = {*params[notebook.stem], "out"}
        assert own <= set(declared) <= own | set(params["common"]) | {"customized", "study"}
        assert set(params.get(f"{notebook.stem}-customized") or {}) <= set(declared)
        assert set(params) - {"common", "plan", "ablations"} == set(STAGES), "a section for every stage; two are none"


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A copy of the study with tiny parameters, run once by a real ``dvc repro``."""
    root = study_in(tmp_path_factory.mktemp("study"))
    shutil.copy(ROOT / "tests" / "params.yaml", root)
    dvc(root, "repro --quiet")
    return root


def study_in(root: Path) -> Path:
    """A copy of notebooks, modules, data and stages in ``root``, a git repository or not, without parameters."""
    for name in ("notebooks", "src", "data"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "dvc.yaml", root)
    shutil.copy(ROOT / "tests" / "params.yaml", root)  # dvc reads names of stages from params.yaml
    (root / ".dvcignore").write_text("__pycache__/\nscratch/\n")
    dvc(root, "init --quiet" if (root / ".git").exists() else "init --no-scm --quiet")
    dvc(root, "add --quiet data")
    return root


def dvc(root: Path, command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(root / "src")}
    done = subprocess.run([sys.executable, "-m", "dvc", *command.split()], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def abu_run(root: Path, stage: str, *pairs: str) -> None:
    """One stage without DVC."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run([sys.executable, "-m", "abu.study.run", stage, *pairs], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_study_runs_and_scores_carry_ids(study: Path) -> None:
    import pandas as pd

    scores = pd.read_parquet(study / "results/unlearn/scores.parquet")
    trained = json.loads((study / "results/train/train.json").read_text())
    assert set(scores.image_id) == set(trained["train_ids"]) and not set(scores.image_id) & set(trained["heldout_ids"])
    assert scores.groupby("query")["rank"].max().eq(len(trained["train_ids"])).all()
    params, every = read(study / "params.yaml"), pd.read_parquet(study / "results/compare/scores.parquet")
    assert set(every.method) == {"abu", "abu-linear", "abu-gauss-newton", "abu-gn", "abu-plus-gn", "abu-plus", *params["compare"]["methods"]} and every.groupby("method").size().nunique() == 1
    models = pd.read_csv(study / "results/retrain/models.csv")
    assert models.ran.all() and models[models.method == "half"].groupby("seed").size().tolist() == [3, 3]
    judged = json.loads((study / "results/evaluate/metrics.json").read_text())
    assert set(judged) == {"signal", "floor", "k=1", "k=2", "batching", "lds"} and "ceiling: another seed" in judged["lds"]
    recovered = json.loads((study / "results/exemplars/metrics.json").read_text())
    assert set(recovered) == {"abu", "chance", *params["compare-customized"]["methods"]}
    assert "customized: panda" in (study / "results/report/index.html").read_text()
    report = nbformat.read(study / "results/report.ipynb", 4)
    assert sum("image/png" in o.get("data", {}) for c in report.cells for o in c.get("outputs", [])) >= 3


def test_second_repro_does_nothing_and_a_forced_one_changes_no_byte(study: Path) -> None:
    assert dvc(study, "status").strip() == "Data and pipelines are up to date."
    before = (study / "dvc.lock").read_bytes()
    dvc(study, "repro --quiet --force")
    assert (study / "dvc.lock").read_bytes() == before


def test_edit_under_unlearn_reruns_it_and_its_followers_only(study: Path) -> None:
    text = (study / "params.yaml").read_text()
    (study / "params.yaml").write_text(text.replace("  relative_norm: null", "  relative_norm: 0.3"))
    try:
        assert set(json.loads(dvc(study, "status --json"))) == {"unlearn", "localize", "unlearn-customized@panda"}
        output = dvc(study, "repro")
    finally:
        (study / "params.yaml").write_text(text)
        dvc(study, "repro --quiet")  # the study that other tests look at
    ran = [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
    followers = {"unlearn", "localize", "influence", "compare", "retrain", "evaluate", "report"}
    assert set(ran) == followers | {"unlearn-customized@panda"}, "its own section overrides the edit: nothing follows from that"


def test_without_a_store_one_pass_serves_every_query(study: Path) -> None:
    import numpy as np
    import pandas as pd

    read_scores = lambda: pd.read_parquet(study / "results/influence/scores.parquet").pivot(index=["method", "query"], columns="image_id", values="score")
    before = read_scores()
    try:
        abu_run(study, "cache", "store=0", "curvature=diagonal")
        abu_run(study, "influence")
        after = read_scores()
    finally:
        dvc(study, "checkout --quiet --force")
    assert set(after.index.levels[0]) == {"abu-linear", "abu-gauss-newton", "abu-gn"}
    agree = [np.corrcoef(before.loc[key], after.loc[key])[0, 1] for key in after.index]
    assert min(agree) > 0.9  # the tiny store holds 64 coordinates of each gradient


def test_ablations_run_in_workspaces_of_their_own(study: Path, tmp_path: Path) -> None:
    import pandas as pd

    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    person = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **person, "PATH": path, "PYTHONPATH": str(tmp_path / "src")}
    call = lambda *words: subprocess.run(words, cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    results = lambda: {file: file.read_bytes() for file in (tmp_path / "results").rglob("*") if file.is_file()}
    call("git", "init", "--quiet")
    study_in(tmp_path)
    dvc(tmp_path, f"config cache.dir {study / '.dvc/cache'}")
    for name in ("params.yaml", "dvc.lock"):
        shutil.copy(study / name, tmp_path)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    shutil.copytree(study / "results", tmp_path / "results")
    (tmp_path / "benchmarks").mkdir()
    grid = {"steps": {2: {}, 1: {"unlearn.steps": 1}}, "curvature": {"diagonal": {}, "none": {"unlearn.curvature": "none"}}}
    YAML().dump(grid, tmp_path / "benchmarks/ablations.yaml")
    call("git", "add", "."), call("git", "commit", "--quiet", "--message", "study")
    before = results()
    call(sys.executable, "-m", "abu.study.ablations")
    assert results() == before and call("git", "status", "--porcelain") == "", "the study itself is as it was"
    call(sys.executable, "-m", "abu.study.run", "ablations")
    found = pd.read_csv(tmp_path / "results/ablations/table.csv", index_col=["factor", "value"])
    assert found.state.tolist() == ["ran", "ran", "ran", "failed"] and found.seconds.iloc[:3].gt(0).all()
    assert found.loc[("curvature", "none"), "own_recall":].isna().all()
    chosen, relative_norm = json.loads((study / "results/tune/chosen.json").read_text())["abu"]["relative_norm"], found.relative_norm["steps"]
    assert relative_norm["1"] == pytest.approx(chosen, rel=1e-3) and relative_norm["2"] < 0.99 * chosen, "two steps do not go straight on"


def test_runner_refuses_unknown_stages_and_parameters(tmp_path: Path) -> None:
    from abu.study.run import execute

    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    with pytest.raises(KeyError, match="unknown stage 'unlearned'"):
        execute("unlearned", {}, tmp_path)
    with pytest.raises(KeyError, match="declares no parameter .'dampening'"):
        execute("unlearn", {"dampening": 1}, tmp_path)
    assert not (tmp_path / "results").exists()
