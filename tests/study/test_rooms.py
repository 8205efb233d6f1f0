"""A room of ``src/abu`` imports only rooms above it, so that a stage may depend on folders."""

import ast
from pathlib import Path

import pytest

from abu import ROOT

ABOVE = {  # room -> rooms that it may import
    "data": (),
    "diffusion": ("data",),
    "core": ("data", "diffusion"),
    "baselines": ("data", "diffusion", "core"),
    "judge": ("data", "diffusion", "core"),
    "study": ("data", "diffusion", "core", "baselines", "judge"),
    "report": ("data", "diffusion", "core", "baselines", "judge"),
    # asks a study that has run; a room of its own, so that no stage depends on it
    "ask": ("data", "diffusion", "core", "judge", "study", "report"),
}
FILES = sorted(path.relative_to(ROOT / "src/abu") for path in (ROOT / "src/abu").rglob("*.py"))


def imported(source: str) -> set[str]:
    """Rooms that a module imports, at its top or within a function."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    names += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("abu.")}


def test_every_file_stands_in_a_room() -> None:
    assert {path.parts[0] for path in FILES} == {"__init__.py", "__main__.py", *ABOVE}


@pytest.mark.parametrize("path", [p for p in FILES if len(p.parts) > 1], ids=str)
def test_arrows_run_one_way(path: Path) -> None:
    room = path.parts[0]
    found = imported((ROOT / "src/abu" / path).read_text()) - {room}
    assert found <= set(ABOVE[room]), f"{path} imports {sorted(found - set(ABOVE[room]))}"


def test_arrows_are_seen() -> None:
    inner = "def f():\n    from abu.study.tasks import run_tasks\n    import abu.report.page\n"
    assert imported("from abu import ROOT\nimport numpy\n" + inner) == {"study", "report"}
