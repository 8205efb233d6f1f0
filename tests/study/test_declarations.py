"""dvc.yaml, params.yaml and the notebooks say the same."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import papermill
import pytest
from ruamel.yaml import YAML

from abu import ROOT
from abu.study.presets import apply
from abu.study.run import ALONE, NOTHING, execute, folder, parameters

read = YAML(typ="safe").load
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
DECLARED = {name: papermill.inspect_notebook(str(path)) for name, path in NOTEBOOKS.items()}
TEXT = (ROOT / "dvc.yaml").read_text()
STAGES = {name: stage.get("do", stage) for name, stage in read(TEXT)["stages"].items()}
del STAGES["sources"]  # it alone has no notebook and depends on nothing
PARAMS = read(ROOT / "params.yaml")
NO_STAGE = {"ablations", "plan"}
CHANGE_NUMBERS = ["seed", "device", "threads", "precision"]  # of the common parameters
by_stage = pytest.mark.parametrize("stage", STAGES)
by_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS)


def source(path: Path) -> str:
    """Python source of a module or a notebook."""
    if path.suffix == ".py":
        return path.read_text()
    cells = nbformat.read(path, 4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def imports(path: Path) -> Iterator[Path]:
    """Modules of rooms that a file imports, at its top or within a function."""
    for node in ast.walk(ast.parse(source(path))):
        names = [alias.name for alias in getattr(node, "names", [])]
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{name}" for name in names)]
        for name in names if isinstance(node, ast.Import | ast.ImportFrom) else []:
            file = ROOT / "src" / (name.replace(".", "/") + ".py")
            if name.startswith("abu.") and file.exists():
                yield file


def rooms(notebook: str) -> set[str]:
    """Rooms that a notebook reaches."""
    seen, ahead = set(), {NOTEBOOKS[notebook]}
    while ahead:
        seen |= ahead
        ahead = {module for file in ahead for module in imports(file)} - seen
    return {file.relative_to(ROOT / "src/abu").parts[0] for file in seen if file.suffix == ".py"}


def outs_of(stage: dict) -> list:
    """Outs and metrics of a stage."""
    return [*stage["outs"], *stage.get("metrics", [])]


def below(stages: dict, dep: str) -> set[str]:
    """Stages that an edit of ``dep`` makes stale, directly or through others."""
    inside = lambda a, b: a == b or a.startswith(f"{b}/") or b.startswith(f"{a}/")
    stale, changed = set(), [dep]
    while changed:
        path = changed.pop()
        for name, stage in stages.items():
            if name not in stale and any(inside(path, each) for each in stage.get("deps", [])):
                stale.add(name)
                changed += [
                    each if isinstance(each, str) else [*each][0] for each in outs_of(stage)
                ]
    return stale


def resolved(params: dict) -> dict:
    """Stages with systems filled in, ``unlearn@panda`` and so on."""
    stages = {}
    for name, stage in read(TEXT)["stages"].items():
        if name == "sources":  # only where parameters name files
            continue
        for key, system in params["systems"].items() if "foreach" in stage else [("", {})]:
            text = json.dumps(stage.get("do", stage)).replace("${key}", key)
            text = text.replace("${item.kind}", system.get("kind", ""))
            stages[f"{name}@{key}" if key else name] = json.loads(text)
    return stages


def test_every_stage_has_a_notebook_and_a_section() -> None:
    assert set(STAGES) == set(NOTEBOOKS) - NO_STAGE
    assert set(PARAMS) == {"common", "systems", "changes", *NOTEBOOKS}
    assert set(read(ROOT / "tests/params.yaml")) == set(PARAMS)


def test_dvc_yaml_is_short_and_names_folders() -> None:
    assert len(TEXT.splitlines()) <= 320
    modules = [dep for stage in STAGES.values() for dep in stage["deps"] if dep.endswith(".py")]
    assert modules == []


def test_what_parameters_name_is_looked_at_where_asked() -> None:
    outs = [{"results/sources": {"cache": False}}]
    look = {"cmd": "${run} sources", "always_changed": True, "outs": outs}
    assert read(TEXT)["stages"]["sources"] == {"foreach": "${common.watch}", "do": look}


@by_stage
def test_stage_depends_on_the_rooms_that_its_notebook_reaches(stage: str) -> None:
    light = set() if stage == "report" else {"study", "report"}  # what changes no number
    expected = {f"src/abu/{room}" for room in rooms(stage) - light}
    assert {dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")} == expected
    assert STAGES[stage]["deps"][0] == f"notebooks/{stage}.ipynb"


@by_stage
def test_stage_depends_on_its_parameters(stage: str) -> None:
    asks, own = "system" in DECLARED[stage], PARAMS[stage] or {}
    common = [name for name in CHANGE_NUMBERS if name in DECLARED[stage] and name not in own]
    expected = {f"common.{name}" for name in common} | {stage}
    expected |= {"changes.${item.kind}." + stage} if asks and stage != "customize" else set()
    if "systems" in DECLARED[stage]:
        expected |= {"systems.${key}" if asks else "systems"}
    assert set(STAGES[stage]["params"]) == expected
    assert STAGES[stage]["cmd"] == f"${{run}} {stage}" + " system=${key}" * asks
    assert ("foreach" in read(TEXT)["stages"][stage]) == asks
    for kind, sections in PARAMS["changes"].items():
        assert asks == (stage in sections) or stage == "customize", kind
    key = "${key}" if asks else ""
    copy = f"results/{stage}-{key}.ipynb" if asks else f"results/{stage}.ipynb"
    outs = {each if isinstance(each, str) else [*each][0] for each in outs_of(STAGES[stage])}
    own = folder(stage, key)
    assert copy in outs and all(o == own or o.startswith(f"{own}/") for o in outs - {copy})


@by_notebook
def test_notebook_declares_its_parameters(notebook: str) -> None:
    declared = set(DECLARED[notebook])
    for params in map(read, (ROOT / "params.yaml", ROOT / "tests/params.yaml")):
        own = {*(params[notebook] or {}), "out"}
        assert own <= declared <= own | {*params["common"], "system", "systems", "study"}
        for sections in params["changes"].values():
            assert set(sections.get(notebook) or {}) <= declared


@by_notebook
def test_notebook_is_stripped(notebook: str) -> None:
    cells = [c for c in nbformat.read(NOTEBOOKS[notebook], 4).cells if c.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


def defaults(notebook: str) -> dict:
    """What the cell tagged ``parameters`` says."""
    cells = nbformat.read(NOTEBOOKS[notebook], 4).cells
    cell = next(cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    nodes = ast.parse(cell.source).body
    return {node.target.id: ast.literal_eval(node.value) for node in nodes}


@by_notebook
def test_defaults_of_a_notebook_are_those_of_params_yaml(notebook: str) -> None:
    _, values = parameters(notebook, {})
    assert defaults(notebook) == values | ({"study": {}} if "study" in values else {})


def test_an_edit_makes_stale_what_it_should() -> None:
    stages = resolved(PARAMS)
    free = {"prepare", "train", "components"}
    free |= {name for name in stages if name.startswith(("generate", "customize"))}
    assert set(stages) - below(stages, "src/abu/core") == free
    assert below(stages, "src/abu/report") == {"report"}
    assert below(stages, "src/abu/study") <= {"report"}
    assert below(stages, "src/abu/data") == set(stages)
    asked = {name for name in below(stages, "results/tune/base") if "@" in name}
    assert asked == {"unlearn@base", "compare@base"}, "customized systems are not tuned"


def test_the_published_benchmark_asks_nothing_about_the_trained_model(tmp_path: Path) -> None:
    params = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    apply(ROOT / "presets/abc.yaml", params)
    stages = resolved(read(params))
    for stage in ("tune", "influence", "localize", "retrain"):
        outs = [out for out in stages[stage]["outs"] if isinstance(out, str)]
        assert "exemplars" not in set().union(*(below(stages, out) for out in outs))
    for stage in ("generate", "unlearn", "compare"):
        assert parameters(stage, {}, root_with(tmp_path, params)) == ("base", None)
        assert parameters(stage, {"system": "bamfg-101549_0"}, tmp_path)[1]["system"]


def root_with(root: Path, params: Path) -> Path:
    """A study of notebooks and parameters alone."""
    if not (root / "notebooks").exists():
        shutil.copytree(ROOT / "notebooks", root / "notebooks")
    if params != root / "params.yaml":
        shutil.copy(params, root / "params.yaml")
    return root


def test_dvc_reads_it(tmp_path: Path) -> None:
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    dvc = [sys.executable, "-m", "dvc"]
    call = lambda *words: (
        subprocess.run(
            [*dvc, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout
    )
    call("init", "--quiet", "--no-scm")
    for params in (ROOT / "params.yaml", ROOT / "tests/params.yaml"):
        shutil.copy(params, tmp_path / "params.yaml")
        assert set(call("stage", "list", "--name-only").split()) == set(resolved(read(params)))
        graph = re.findall(r'"(.+)" -> "(.+)";', call("dag", "--dot"))
        assert not [a for a, b in graph if b == "unlearn@panda" and a == "tune"]
        assert ("cache@base", "unlearn@panda") in graph and ("tune", "compare@base") in graph


@pytest.mark.parametrize(
    "stage, pairs, message",
    [
        ("unlearned", {}, "unknown stage unlearned; expected some of .*'unlearn'"),
        ("common", {}, "unknown stage common"),
        ("unlearn", {"dampening": 1}, "unknown parameter of unlearn.ipynb dampening; .*'damping'"),
        ("unlearn", {"system": "pandas"}, "unknown system pandas; expected some of .*'panda'"),
        ("train", {"system": "panda"}, "unknown parameter of train.ipynb system"),
    ],
)
def test_runner_refuses(stage: str, pairs: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=message):
        execute(stage, pairs, root_with(tmp_path, ROOT / "params.yaml"))
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "path, message",
    [
        ("common.colour", "unknown common parameter colour"),
        ("changes.customized.tune", "unknown section of changes.customized tune"),
        ("systems.panda.kind", "unknown kind of system red; expected some of .*'customized'"),
    ],
)
def test_runner_refuses_what_would_be_ignored(path: str, message: str, tmp_path: Path) -> None:
    params = root_with(tmp_path, ROOT / "params.yaml") / "params.yaml"
    tree, (*above, key) = read(params), path.split(".")
    node = tree
    for step in above:
        node = node[step]
    node[key] = "red"
    YAML().dump(tree, params)
    with pytest.raises(KeyError, match=message):
        execute("plan", {}, tmp_path)
    assert not (tmp_path / "results").exists()


def test_nothing_is_done_where_changes_say_null(tmp_path: Path) -> None:
    params = root_with(tmp_path, ROOT / "params.yaml") / "params.yaml"
    params.write_text(params.read_text().replace("    kind: base #", "    kind: reference #"))
    execute("unlearn", {"system": "base"}, tmp_path)
    assert (tmp_path / "results/unlearn/base/README.md").read_text() == NOTHING
    cells = nbformat.read(tmp_path / "results/unlearn-base.ipynb", 4).cells
    assert [cell.source for cell in cells] == [f"# unlearn, base\n\n{NOTHING}"]
    for kind in ("customized", "reference"):  # as in git, since a fresh clone may skip all stages
        for stage in ALONE:
            left = Path("results", stage, kind, "README.md")
            assert (tmp_path / left).read_text() == (ROOT / left).read_text() == NOTHING
