"""``python -m abu --help`` lists all that can be run, in the words of what is run."""

import re
import subprocess
import sys

from helpers import ROOT

from abu.__main__ import STARTED, commands, listing, presets, sentence, stages, targets
from abu.study.folders import read_yaml

LISTED = listing()


def test_every_module_that_is_run_is_listed_with_its_own_words() -> None:
    started = [p for p in (ROOT / "src/abu").rglob("*.py") if STARTED in p.read_text()]
    assert len(commands(ROOT / "src/abu")) == len(started) - 1  # itself
    for name in ("judge", "study.run STAGE", "study.presets", "study.banks", "study.ablations"):
        assert f"  python -m abu.{name}" in LISTED
    assert "python benchmarks/kills.py" in LISTED and "python scripts/emoji.py" in LISTED
    assert "Judge a file of scores by the bank.\n" in LISTED


def test_every_notebook_preset_and_target_is_listed() -> None:
    in_order = [name for name in read_yaml(ROOT / "dvc.yaml")["stages"] if name != "sources"]
    assert list(stages()) == [*in_order, "ablations", "plan"] and all(stages().values())
    assert presets().keys() == {path.stem for path in (ROOT / "presets").glob("*.yaml")}
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert list(targets()) == [f"make {name}" for name in phony.split()]


def test_it_needs_no_package() -> None:
    """On a machine where nothing is installed, too."""
    call = lambda *words: subprocess.run(
        [sys.executable, "-S", "-m", "abu", *words],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert call("--help").stdout == call().stdout and LISTED in call().stdout
    assert call("unlearn").returncode == 1 and "unknown: unlearn" in call("unlearn").stderr


def test_a_sentence_ends_where_it_does() -> None:
    assert sentence("One two\nthree 57.4M. Four.") == "One two three 57.4M."
    assert sentence("Who? ") == "Who?" and sentence("no stop") == "no stop."
