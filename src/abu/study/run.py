"""Run a notebook of the study as a DVC stage: ``python -m abu.study.run STAGE [KEY=VALUE ...]``.

``notebooks/STAGE.ipynb`` receives what it declares of the ``common`` section of ``params.yaml``,
its own section, the pairs (YAML values), and ``out``, the folder it owns. A notebook that declares
``system`` asks about one of ``systems``, by default ``base``: what ``changes`` has for its kind
replaces parameters of the section. One that declares ``systems`` or ``study`` receives all systems,
or all of ``params.yaml``. The executed copy, without anything that differs between equal runs, is
``results/STAGE.ipynb`` or ``results/STAGE-SYSTEM.ipynb``; what a run took goes to
``results/stages.csv``. The stage ``sources`` has no notebook. Started in another checkout of the
study, such as the folder of a queued DVC experiment, it runs with the modules of that one. The only
module that knows papermill.
"""

import os
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from abu import ROOT
from abu.study.batch import AUTO, numbered
from abu.study.checkout import settle
from abu.study.commands import QUIET, command
from abu.study.costs import MEASURED, STAGE, STAGES, record
from abu.study.declared import check, check_study, check_value, declarations
from abu.study.folders import read_yaml
from abu.study.inputs import check_inputs
from abu.study.memory import Watch, advice, reason
from abu.study.outputs import lightened, normalised
from abu.study.remaining import where
from abu.study.sources import SOURCES, check_watched, write_sources

ENVIRONMENT = QUIET | {  # read by the kernel at start-up
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore:IProgress not found,ignore:To exit",
    "SOURCE_DATE_EPOCH": "0",
}
ALONE = ("tune", "influence")  # they ask about the base system alone, in results/STAGE/base
NOTHING = "For this kind of system nothing is done: params.yaml, `changes`.\n"


def folder(stage: str, system: str) -> str:
    """Folder of a stage's results; the system is "" where a stage asks about none."""
    return "/".join(filter(None, ["results", stage, "base" if stage in ALONE else system]))


def executed(stage: str, system: str) -> str:
    """Where the executed copy of a stage's notebook goes."""
    return f"results/{'-'.join(filter(None, [stage, system]))}.ipynb"


def parameters(stage: str, pairs: dict, root: Path = ROOT) -> tuple[str, dict | None]:
    """The system that a stage asks about ("": none), and its notebook's parameters (None: nothing
    is done). KeyError for a stage, system or parameter that does not exist or is missing, and
    ValueError for a value of another kind than its notebook declares, in any section, and for a
    file that DVC would not look at."""
    study, declared = checked(root)
    check("stage", [stage], study.keys() & declared)
    values, system = (study[stage] or {}) | pairs, ""
    if "system" in declared[stage]:
        system = pairs.get("system", "base")
        check("system", [system], study["systems"])
        changes = study["changes"][study["systems"][system]["kind"]].get(stage, {})
        if changes is None:
            return system, None
        values = (study[stage] or {}) | changes | pairs | {"system": system}
    check(f"parameter of {stage}.ipynb", values, declared[stage])
    for name, value in pairs.items():
        check_value(f"{stage}.{name}", value, declared[stage][name])
    if not study["common"].get("watch"):
        check_watched(study, stage, root)
    given = study["common"] | {"systems": study["systems"], "study": numbered(study, root)}
    given = {name: value for name, value in given.items() if name in declared[stage]}
    return system, given | values | {"out": folder(stage, system)}


def checked(root: Path) -> tuple[dict, dict[str, dict]]:
    """All of ``params.yaml``, refused as in ``parameters``, and what notebooks declare, by name."""
    study = read_yaml(root / "params.yaml")
    declared = {path.stem: declarations(path) for path in (root / "notebooks").glob("*.ipynb")}
    check_study(study, declared)
    return study, declared


def execute(stage: str, pairs: dict, root: Path = ROOT) -> None:
    """Execute a stage's notebook; what ``parameters`` refuses is refused before it writes."""
    if stage == SOURCES:
        return write_sources(checked(root)[0], root)
    system, values = parameters(stage, pairs, root)
    out, target = root / folder(stage, system), root / executed(stage, system)
    for kind in read_yaml(root / "params.yaml")["changes"].keys() - {"base"}:
        for alone in ALONE:  # what other kinds depend on in place of it
            leave(root / "results" / alone / kind)
    if values is not None:
        check_inputs(stage, system, root)
        if values.get("batch_size") == AUTO:
            common = read_yaml(root / "params.yaml")["common"]
            values = numbered({"common": common, "values": values}, root, measure=True)["values"]
    out.mkdir(parents=True, exist_ok=True)
    if values is None:
        leave(out)
        title = nbformat.v4.new_markdown_cell(f"# {stage}, {system}\n\n{NOTHING}")
        return nbformat.write(normalised(nbformat.v4.new_notebook(cells=[title])), target)
    if place := where(stage, system, root):
        print(place, file=sys.stderr)
    begin, watch = time.perf_counter(), Watch()
    try:
        with progress_to_terminal(), watch:
            source = str(root / "notebooks" / f"{stage}.ipynb")
            options = {"cwd": str(root), "coalesce_streams": True}
            options |= {"progress_bar": False, "record_timing": False}
            notebook = papermill.execute_notebook(source, str(target), values, **options)
    except (DeadKernelError, PapermillExecutionError) as error:
        if not (why := reason(error)):
            raise
        told = advice(stage, system, values, watch.peak, root)
        raise MemoryError(f"{executed(stage, system)}: {why}; {told}") from error
    nbformat.write(lightened(normalised(notebook)), target)
    took = {"seconds": time.perf_counter() - begin, "peak_bytes": watch.peak}
    took["disk_bytes"] = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    record({(stage, system): took}, root / STAGES, STAGE, MEASURED)


def leave(folder: Path) -> None:
    """A folder that says that nothing is done."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(NOTHING)


@contextmanager
def progress_to_terminal():
    """Show what the kernel writes to the pipe ``ABU_PROGRESS``; its output is the notebook's."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "progress")
        os.mkfifo(path)
        os.environ["ABU_PROGRESS"] = path
        pipe = os.open(path, os.O_RDWR)  # no end of file when the kernel closes its end

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


def main(stage: str, *pairs: str) -> None:
    if odd := [pair for pair in pairs if "=" not in pair]:
        raise ValueError(f"{odd[0]!r} after {stage}; expected KEY=VALUE, as steps=2")
    split = dict(pair.split("=", 1) for pair in pairs)
    values = {key: text if key == "system" else read_yaml(text) for key, text in split.items()}
    execute(stage, values)


if __name__ == "__main__":
    settle(Path.cwd())
    os.environ.update(ENVIRONMENT)
    command(main, __doc__, least=1)
