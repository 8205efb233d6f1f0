"""What is set up on a fresh machine, by the ordinary package index."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from ruamel.yaml import YAML
from studies import study_in

PYTHONS = ["3.11", "3.12", "3.13"]
LOCK = ROOT / "requirements.lock"
CUDA = {"nvidia-cudnn-cu13", "nvidia-cublas", "triton"}  # what torch's own build for Linux loads


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_the_plain_index_has_all_that_is_locked(python: str) -> None:
    command = ["uv", "pip", "compile", "pyproject.toml", "--extra", "test", "--no-header"]
    command += ["--no-annotate", "--constraints", str(LOCK), "--python-version", python]
    command += ["--python-platform", "x86_64-manylinux_2_28", "--no-python-downloads", "--quiet"]
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))}
    options = {"cwd": ROOT, "capture_output": True, "text": True}
    done = subprocess.run(
        [sys.executable, "-m", *command], env=plain | {"UV_NO_CONFIG": "1"}, **options
    )
    assert done.returncode == 0, done.stderr[-3000:]
    resolved = pins(done.stdout)
    assert resolved.keys() >= CUDA | {"torch", "diffusers", "dvc", "pytest"}
    assert not {"torchvision", "kronfluence"} & resolved.keys()
    locked = LOCK.read_text()
    assert all(f"\n{name}=={version}" in locked for name, version in resolved.items())


def make(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """make in a copy of the repository's files, with no other program than those in ``folder``."""
    environment = {"PATH": str(folder), "HOME": str(folder)}
    command = ["/usr/bin/make", "--file", str(ROOT / "Makefile"), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def fake(folder: Path, name: str, fits: bool = True) -> None:
    (folder / name).write_text(f"#!/bin/sh\nexit {0 if fits else 1}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine without Python, with what make needs beside it."""
    for name in ("pyproject.toml", "requirements.lock"):
        (tmp_path / name).touch()
    return tmp_path


def test_the_newest_python_that_fits_is_taken(machine: Path) -> None:
    fake(machine, "python3.11")
    fake(machine, "python3.12")
    fake(machine, "python3.13", fits=False)  # a shim of no version, or one without venv
    fake(machine, "python3")
    assert f"{machine}/python3.12 -m venv .venv" in make(machine, "-n", ".venv/ready").stdout
    asked = make(machine, "-n", ".venv/ready", "PYTHON=/elsewhere/python").stdout
    assert "/elsewhere/python -m venv .venv" in asked


def test_python3_serves_where_it_fits(machine: Path) -> None:
    fake(machine, "python3")
    assert f"{machine}/python3 -m venv .venv" in make(machine, "-n", ".venv/ready").stdout


def test_no_python_is_said_before_anything_is_made(machine: Path) -> None:
    fake(machine, "python3", fits=False)
    done = make(machine, ".venv/ready")
    assert done.returncode != 0
    expected = "No Python of 3.11 to 3.13 with venv: install one (Debian, Ubuntu: apt install "
    assert f"{expected}python3 python3-venv), or name it: make PYTHON=/path/to/python" in " ".join(
        done.stdout.split()
    )
    assert not (machine / ".venv").exists()


def test_conda_takes_the_same_versions() -> None:
    environment = YAML(typ="safe").load(ROOT / "environment.yml")
    python, _, pip = environment["dependencies"]
    assert python == "python>=3.11,<3.14" and pip == {"pip": ["-c requirements.lock", "-e ."]}
    assert 'requires-python = ">=3.11,<3.14"' in (ROOT / "pyproject.toml").read_text()


def test_stages_find_python_without_an_active_environment(tmp_path: Path) -> None:
    root = study_in(tmp_path / "study")
    (root / ".venv").symlink_to(sys.prefix)
    command = [str(Path(sys.executable).with_name("dvc")), "repro", "--quiet", "components"]
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(root / "src")}
    done = subprocess.run(command, cwd=root, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (root / "results/components/components.json").exists()
