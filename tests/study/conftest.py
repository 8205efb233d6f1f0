"""The tiny study, to be changed, and in part."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """All of it."""
    return shutil.copytree(tiny, tmp_path / "study")


@pytest.fixture(scope="session")
def good(tiny: Path, tmp_path_factory) -> Path:
    """It up to its caches, with what is needed of ``tune`` and ``compare``; nothing is kept in
    ``scratch``."""
    root = tmp_path_factory.mktemp("good")
    shutil.copy(tiny / "params.yaml", root)
    for name in ("notebooks", "data"):
        (root / name).symlink_to(tiny / name)
    stages = ("components", "prepare", "train", "customize", "generate", "cache")
    for name in (*stages, "tune/base", "compare/base"):
        shutil.copytree(tiny / "results" / name, root / "results" / name)
    return root
