"""Does a study that is killed again and again end in the same bytes? ``python benchmarks/kills.py
[--kills 20] [--until STAGE]``.

Runs the tiny study of the tests twice, in temporary copies. One is left alone; the times at which
its stages began are the scale. In the other, SIGKILL ends every process (dvc, runner, kernel) at
random moments of that scale, named draws, and ``dvc repro`` goes on with what it finds; a killed
stage begins anew. Then every file of both is compared, nothing may be left over, and each object of
the cache must be what its name says. dvc writes two files of its own in place: where a kill tears
one, the script does what the README says, and the row shows it (``by hand``). Writes
``benchmarks/kills.csv``; exits with 1 where something differs.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil

from abu import ROOT
from abu.diffusion.noise import stream

sys.path.insert(0, str(ROOT / "tests"))
from studies import study_in  # noqa: E402

TIMES_DIFFER = {"results/costs.csv", "results/stages.csv"}
TORN = {  # what dvc says of them
    "dvc.lock": r"dvc\.lock' (is invalid|validation failed)",
    ".dvc/tmp/rwlock": "Unable to read RWLock-file",
}


def processes_in(root: Path) -> list[psutil.Process]:
    """Processes that work in a copy: also kernels, which are in sessions of their own."""
    within = lambda folder: folder and Path(folder).is_relative_to(root)
    return [p for p in psutil.process_iter(["cwd", "cmdline"]) if within(p.info["cwd"])]


def kill(root: Path) -> str:
    """SIGKILL everything that works in a copy; says whether a notebook was running or dvc alone."""
    found = processes_in(root)
    running = any("abu.study.run" in (p.info["cmdline"] or []) for p in found)
    while found:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=10)
        found = processes_in(root)
    return "notebook" if running else "dvc"


def repro(
    root: Path, until: list[str], moment: tuple[str, float] | None = None, order: Sequence[str] = ()
) -> tuple[dict[str, float], str]:
    """``dvc repro``, killed at a ``moment`` (stage, seconds after it began; "": before any) or when
    a later stage of ``order`` begins.

    Seconds at which each stage began, and "end" when all had ended; what was interrupted, "" if it
    ended by itself. Raises RuntimeError where dvc fails.
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(root / "src")}
    # what killed kernels leave behind
    environment |= {name: str(root.parent) for name in ("TMPDIR", "JUPYTER_RUNTIME_DIR")}
    start, lines = time.monotonic(), []
    began = {"": 0.0}
    command = [sys.executable, "-m", "dvc", "repro", *until]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, cwd=root, env=environment, text=True, **pipes)

    def listen() -> None:
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Running stage"):
                began[line.split("'")[1]] = time.monotonic() - start

    thread = threading.Thread(target=listen)
    thread.start()
    interrupted = ""
    while process.poll() is None:
        if moment:
            stage, offset = moment
            later = set(order[order.index(stage) + 1 :]) & began.keys()
            passed = time.monotonic() - start
            if later or (stage in began and passed - began[stage] >= offset):
                interrupted = kill(root)
        time.sleep(0.02)
    thread.join()
    if not interrupted and process.returncode:
        raise RuntimeError("".join(lines[-60:]))
    return began | {"end": time.monotonic() - start}, interrupted


def resumed(root: Path, *arguments) -> tuple[dict[str, float], str, str]:
    """``repro``, and which of dvc's own files had to be removed by hand before it ran."""
    try:
        return *repro(root, *arguments), ""
    except RuntimeError as error:
        torn = [file for file, message in TORN.items() if re.search(message, str(error))]
        if not torn:
            raise
    for file in torn:
        (root / file).unlink()
    return *repro(root, *arguments), " ".join(torn)


def contents(root: Path) -> dict[str, str]:
    """Hash of each file that a run leaves, temporary ones too, but for those that hold times."""
    files = [root / "dvc.lock", *(f for f in (root / "results").rglob("*") if f.is_file())]
    named = {str(file.relative_to(root)): file for file in files}
    return {name: digest(file) for name, file in named.items() if name not in TIMES_DIFFER}


def digest(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def corrupt(root: Path) -> list[str]:
    """Objects of dvc's cache that are not what their names say."""
    objects = (root / ".dvc/cache/files/md5").glob("??/*")
    named = lambda path: path.parent.name + path.name.removesuffix(".dir")
    return [str(path.relative_to(root)) for path in objects if digest(path) != named(path)]


def moments(began: dict[str, float], count: int) -> list[tuple[str, float]]:
    """``count`` named draws from the time of an undisturbed run, in order: the stage and the
    seconds after it began."""
    times = sorted(began["end"] * stream("kills", number).random() for number in range(count))
    last = lambda t: max((name for name in began if began[name] <= t), key=began.get)
    return [(last(t), t - began[last(t)]) for t in times]


def main(count: int, until: list[str]) -> bool:
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        alone, killed = (Path(folder, name).resolve() / "study" for name in ("alone", "killed"))
        for root in (alone, killed):
            root.mkdir(parents=True)
            study_in(root)
            # threads that wait for each other on a busy machine would take most of the time
            params = root / "params.yaml"
            params.write_text(params.read_text().replace("threads: 0", "threads: 1", 1))
        began, _ = repro(alone, until)
        print({stage: round(t) for stage, t in began.items()}, flush=True)
        rows, anew = [], []
        while len(rows) < count:
            for moment in moments(began, count - len(rows)):
                seen, interrupted, by_hand = resumed(killed, [*anew, *until], moment, list(began))
                # all was done before the moment came: the rest go into a run of everything anew
                if not interrupted:
                    anew = ["--force"]
                    break
                *_, stage = [name for name in seen if name != "end"]
                row = {"kill": len(rows) + 1, "seconds": seen["end"], "stage": stage}
                row |= {"in the stage": seen["end"] - seen[stage]}
                row |= {"interrupted": interrupted, "by hand": by_hand}
                rows, anew = [*rows, row], []
                print(row, flush=True)
        seen, _, by_hand = resumed(killed, until)
        expected, found = contents(alone), contents(killed)
        every = expected.keys() | found.keys()
        bad = sorted(name for name in every if expected.get(name) != found.get(name))
        bad += corrupt(killed) + [name for name in expected if Path(name).name.startswith(".")]
        verdict = f"these differ: {bad}" if bad else "the same bytes"
        verdict = f"{count} kills, {len(expected)} files: {verdict}"
        rows.append({"kill": "alone", "seconds": began["end"]})
        seconds = sum(row["seconds"] for row in rows[:-1]) + seen["end"]
        rows.append({"kill": "killed", "seconds": seconds, "stage": verdict, "by hand": by_hand})
        print(verdict)
        if not until:
            pd.DataFrame(rows).round(1).to_csv(ROOT / "benchmarks/kills.csv", index=False)
        return not bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    stop = "stages to stop at; nothing is recorded then"
    parser.add_argument("--until", nargs="*", default=[], help=stop)
    options = parser.parse_args()
    sys.exit(0 if main(options.kills, options.until) else 1)
