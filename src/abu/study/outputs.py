"""What an executed notebook keeps: nothing that differs between equal runs, and pictures that a git
host can show."""

import base64
from copy import deepcopy

import nbformat

from abu.data.palette import COLOURS, palette

MOST = 1_000_000
"""Bytes of an executed notebook: a git host renders no large one."""


def size(notebook: nbformat.NotebookNode) -> int:
    """Bytes of a notebook's file."""
    return len(nbformat.writes(notebook).encode())


def lightened(notebook: nbformat.NotebookNode, most: int = MOST) -> nbformat.NotebookNode:
    """An executed notebook whose pictures have palettes, of as many colours as ``most`` bytes
    allow; it may have more bytes where the fewest colours do not help."""
    light = notebook
    for colours in COLOURS:
        light = deepcopy(notebook)
        for cell in light.cells:
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                if "image/png" in data:
                    png = palette(base64.b64decode(data["image/png"]), colours)
                    data["image/png"] = base64.b64encode(png).decode()
        if size(light) <= most:
            break
    return light


def normalised(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The executed notebook without what differs between two equal runs, and without the trace of
    one that ended itself early."""
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("ename") != "SystemExit"]
    return notebook
