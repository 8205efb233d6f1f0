"""Code is formatted and linted by ruff, and the rooms of the method are accepted by mypy."""

import subprocess
import sys

import pytest
from helpers import ROOT

FOLDERS = ("src", "tests", "scripts", "benchmarks")
COMMANDS = {
    "format": ("ruff", "format", "--check", *FOLDERS),
    "lint": ("ruff", "check", *FOLDERS),
    "types": ("mypy",),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_style(name: str) -> None:
    command = [sys.executable, "-m", *COMMANDS[name]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
