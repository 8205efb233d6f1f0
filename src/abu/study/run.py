"""Run one notebook of the study as a DVC stage: ``python -m abu.study.run STAGE [KEY=VALUE ...]``.

``notebooks/STAGE.ipynb`` receives what it declares of the ``common`` section of ``params.yaml``, its own section, the pairs
(YAML values), and ``out``, the folder it owns. The executed copy, without anything that differs between equal runs, is
``results/STAGE.ipynb``. ``STAGE-customized`` runs the same notebook on a customized model, ``customized=NAME``: its own section
overrides that of STAGE, it owns ``results/STAGE-customized/NAME``, and its executed copy is ``results/customized/NAME/STAGE.ipynb``.
Started in another checkout of the study, such as the folder of a queued DVC experiment, it runs with the modules of that one.
A notebook that declares ``study`` receives all of ``params.yaml``. What each run took goes to ``results/stages.csv``.
The only module that knows papermill and ``params.yaml``.
"""

import os
import resource
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
from ruamel.yaml import YAML

from abu import ROOT
from abu.study.costs import MEASURED, STAGE, STAGES, record

ENVIRONMENT = {  # read by the kernel at start-up
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore:IProgress not found,ignore:To exit",
    "SOURCE_DATE_EPOCH": "0",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


read = YAML(typ="safe").load


def notebook_of(stage: str) -> str:
    """Notebook that a stage runs."""
    return stage.removesuffix("-customized")


def parameters(stage: str, pairs: dict, root: Path = ROOT) -> dict:
    """Parameters of one run beside ``common``, later sources winning: the notebook's section, the stage's, ``pairs``, ``out``."""
    params, notebook = read(root / "params.yaml"), notebook_of(stage)
    if (
        not {stage, notebook} <= set(params)
        or not (root / "notebooks" / f"{notebook}.ipynb").exists()
    ):
        raise KeyError(
            f"unknown stage {stage!r}; expected one of {sorted(set(params) - {'common'})}"
        )
    out = "/".join(["results", stage, *filter(None, [pairs.get("customized")])])
    return {**(params[notebook] or {}), **(params[stage] or {}), **pairs, "out": out}


def executed(stage: str, customized: str | None = None) -> str:
    """Where the executed copy of a stage's notebook goes."""
    return (
        f"results/customized/{customized}/{notebook_of(stage)}.ipynb"
        if customized
        else f"results/{stage}.ipynb"
    )


def execute(stage: str, pairs: dict, root: Path = ROOT) -> None:
    """Execute a notebook; raises KeyError for a stage or a parameter that does not exist, before anything is written."""
    values = parameters(stage, pairs, root)
    source, target = (
        root / "notebooks" / f"{notebook_of(stage)}.ipynb",
        root / executed(stage, pairs.get("customized")),
    )
    declared = papermill.inspect_notebook(str(source)).keys()
    if unknown := values.keys() - declared:
        raise KeyError(f"{source.name} declares no parameter {sorted(unknown)}")
    study = read(root / "params.yaml")
    every = {
        name
        for path in source.parent.glob("*.ipynb")
        for name in papermill.inspect_notebook(str(path))
    }
    if unknown := study["common"].keys() - every:
        raise KeyError(f"no notebook declares the common parameter {sorted(unknown)}")
    values = {
        name: value
        for name, value in {**study["common"], "study": study}.items()
        if name in declared
    } | values
    (root / values["out"]).mkdir(parents=True, exist_ok=True)
    for section in study:
        if section == "customize" or section != notebook_of(
            section
        ):  # read as folders: DVC refuses one that is missing, also where
            (root / "results" / section).mkdir(exist_ok=True)  # no model is customized
    target.parent.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    with progress_to_terminal():
        notebook = papermill.execute_notebook(
            str(source),
            str(target),
            values,
            cwd=str(root),
            progress_bar=False,
            record_timing=False,
            coalesce_streams=True,
        )
    nbformat.write(normalised(notebook), target)
    took = {
        "seconds": time.perf_counter() - begin,
        "peak_bytes": peak_of_children(),
        "disk_bytes": bytes_under(root / values["out"]),
    }
    record({(stage, pairs.get("customized") or ""): took}, root / STAGES, STAGE, MEASURED)


def peak_of_children() -> int:
    """Peak resident bytes of the largest process that this one started and that has ended: of a stage, its kernel."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


def bytes_under(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def progress_to_terminal():
    """Show what the kernel writes to the pipe ``ABU_PROGRESS``, since its own output belongs to the notebook."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "progress")
        os.mkfifo(path)
        os.environ["ABU_PROGRESS"] = path
        pipe = os.open(
            path, os.O_RDWR
        )  # never end of file while the kernel opens and closes its end

        def copy() -> None:
            while not (data := os.read(pipe, 65536)).endswith(b"\0"):
                os.write(2, data)

        thread = threading.Thread(target=copy, daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.write(pipe, b"\0")
            thread.join(timeout=5)
            os.close(pipe)
            del os.environ["ABU_PROGRESS"]


def normalised(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The executed notebook without what differs between two equal runs."""
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    return notebook


def settle(here: Path) -> None:
    """Make ``here`` a study of its own if it is another checkout than the one that ``abu`` was installed from.

    Modules: the process starts again with those of ``here``. Finished tasks: a queued experiment shares the ``scratch/`` of the
    study that queued it, which DVC names; folders in it are named by all inputs.
    """
    if not (here / "src/abu/study/run.py").exists():
        return
    study, scratch = Path(os.environ.get("DVC_ROOT", here)).resolve(), here / "scratch"
    if study != here and not scratch.exists():
        (study / "scratch").mkdir(exist_ok=True)
        scratch.symlink_to(study / "scratch")
    modules = str(here / "src")
    if here != ROOT and os.environ.get("PYTHONPATH") != modules:
        os.execve(
            sys.executable,
            [sys.executable, "-m", "abu.study.run", *sys.argv[1:]],
            os.environ | {"PYTHONPATH": modules},
        )


if __name__ == "__main__":
    settle(Path.cwd())
    os.environ.update(ENVIRONMENT)
    stage, *pairs = sys.argv[1:]
    execute(
        stage,
        {
            key: YAML(typ="safe").load(value)
            for key, value in (pair.split("=", 1) for pair in pairs)
        },
    )
