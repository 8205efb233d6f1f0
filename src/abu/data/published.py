"""The Attribution-by-Customization benchmark (arXiv 2306.09345) in the layout in which it is
published.

``ROOT/exemplar``, ``synth`` and ``models`` hold photographs, synthesized pictures and customized
models; ``json/TEST_CASE.json`` lists exemplars; a task list names for each synthesized picture its
prompt, its model and the place of its exemplars in those lists; ``laion_latents.npy`` [N or 2 N, c,
h, w] (then mirror images) and ``laion_text_embeddings.npy`` [N, (captions,) L, D] hold the
distractors, whose pictures are in ``laion_subset``.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from abu.data.captions import Captioned
from abu.data.released import encoded

FIELDS = ("synth_image_path", "prompt", "model_path", "train_prompt", "test_case", "category")
PICTURES = (".png", ".jpg", ".jpeg")


def model_name(path: str) -> str:
    """Name of a model by its path in the benchmark: ``models/bamfg/101549_0`` is
    ``bamfg-101549_0``."""
    return "-".join(Path(path).parts[1:])


def read_tasks(path: Path, root: Path) -> pd.DataFrame:
    """Rows of a task list, with ``model``: the name of each row's model.

    Raises ValueError for a file of another form or a row without one of the fields,
    FileNotFoundError for a row without its picture.
    """
    try:
        rows = json.loads(Path(path).read_text())
        if not isinstance(rows, list) or not rows:
            raise ValueError(f"found {type(rows).__name__} of length {len(rows)}")
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a task list: expected a json list of rows with {', '.join(FIELDS)}; "
            f"{error}"
        ) from error
    for number, row in enumerate(rows):
        if lacking := [field for field in FIELDS if field not in row]:
            raise ValueError(f"{path}: row {number} lacks {lacking}")
        if not (root / row["synth_image_path"]).is_file():
            raise FileNotFoundError(
                f"{path}: the picture of row {number} is missing: {root / row['synth_image_path']}"
            )
    table = pd.DataFrame(rows)
    return table.assign(model=table.model_path.map(model_name))


def tasks_of(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Rows of one model, which must agree on its exemplars. Raises KeyError for an unknown model,
    ValueError for rows that differ."""
    rows = table[table.model == model].reset_index(drop=True)
    if rows.empty:
        raise KeyError(f"the task list has no model {model!r}; it has {sorted(set(table.model))}")
    shared = rows.columns.intersection(["train_prompt", "test_case", "category", "test_case_ind"])
    if differing := [field for field in shared if rows[field].nunique() > 1]:
        raise ValueError(f"rows of model {model!r} differ in {differing}")
    return rows


def exemplars(rows: pd.DataFrame, root: Path) -> list[Path]:
    """Exemplar pictures of one model's rows: those that ``json/TEST_CASE.json`` lists at
    ``test_case_ind``.

    Raises FileNotFoundError for a list or a picture that is missing, IndexError for a number beyond
    the list.
    """
    case, number = rows.test_case[0], int(rows.test_case_ind[0]) if "test_case_ind" in rows else 0
    listing = root / "json" / f"{case}.json"
    if not listing.is_file():
        raise FileNotFoundError(
            f"the exemplars of test case {case!r} are listed in {listing}, which is missing"
        )
    cases = json.loads(listing.read_text())
    if number >= len(cases):
        raise IndexError(
            f"{listing} lists {len(cases)} cases; the task list asks for number {number}"
        )
    paths = [root / path.removeprefix("dataset/") for path in cases[number]["exemplar"]]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise FileNotFoundError(f"exemplars of {case!r} number {number} are missing: {missing[:5]}")
    return paths


def distractors(
    latents: Path, texts: Path, pictures: Path
) -> tuple[np.ndarray, np.ndarray, list[Captioned]]:
    """Latents [N, F, c, h, w] and token states [N, C, L, D] as ``abu.data.released.encoded``, and a
    record without caption of each picture, in the order of their names; ids count from 0."""
    files = sorted(path for path in pictures.rglob("*") if path.suffix.lower() in PICTURES)
    return *encoded(latents, texts, len(files)), [
        Captioned(number, file, ("",), {}) for number, file in enumerate(files)
    ]
