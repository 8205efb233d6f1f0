"""One self-contained HTML page on which a reader picks a query and sees every method's answer;
arrays in, text out."""

import base64
import html
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from abu.judge.recovery import best
from abu.report.methods import METHODS_SAY
from abu.report.style import look

TEMPLATE = Path(__file__).with_suffix(".html")
SIDE = 128  # most pixels of a picture, across and down


class First(NamedTuple):
    """An image that stands high, its score, whether it is known to be right, and the score's
    standard error, where it has one."""

    image: int
    score: float
    right: bool
    error: float | None = None


class Measured(NamedTuple):
    """A linear datamodelling score and the ends of its 95 % interval."""

    lds: float
    low: float
    high: float


@dataclass(frozen=True)
class Answer:
    """A query's picture [3, H, W] in [0, 1], each method's first images, best first, pictures
    [3, H, W] that other models drew of it, by name, and what retrained models say of each method's
    scores for this query."""

    name: str
    kind: str
    prompt: str
    picture: np.ndarray
    answers: dict[str, list[First]]
    after: dict[str, np.ndarray] = field(default_factory=dict)
    judged: dict[str, Measured] = field(default_factory=dict)


def answers_of(
    queries: pd.DataFrame,
    pictures: np.ndarray,
    scores: Iterable[tuple[str, pd.DataFrame]],
    right: dict[int, set[int]],
    top: int,
    after: Mapping[str, np.ndarray] | None = None,
    errors: Mapping[str, pd.DataFrame] | None = None,
    judged: Mapping[int, dict[str, Measured]] | None = None,
) -> list[Answer]:
    """Answers of all methods, whose ``scores`` (query, image_id, score) come one after the other,
    for the rows of ``queries`` (query, name, kind, prompt), whose ``pictures`` are [Q, 3, H, W];
    ``right``: ids known to be right, by query; ``after``: pictures [Q, 3, H, W] by name;
    ``errors``: standard errors by method, a row a query and a column an image; ``judged``: by
    query and method."""
    firsts = {method: best(scored, queries["query"].tolist(), top) for method, scored in scores}
    error_of = {method: table.to_dict("index") for method, table in (errors or {}).items()}
    answers = []
    for i, row in enumerate(queries.itertuples()):
        known = right.get(row.query, set())
        shown = {}
        for method, (ids, values) in firsts.items():
            error = error_of.get(method, {}).get(row.query, {})
            pairs = zip(ids[i].tolist(), values[i].tolist())
            shown[method] = [First(id, score, id in known, error.get(id)) for id, score in pairs]
        redrawn = {name: drawn[i] for name, drawn in (after or {}).items()}
        measured = (judged or {}).get(row.query, {})
        asked = row.name, row.kind, row.prompt, pictures[i]
        answers.append(Answer(*asked, shown, redrawn, measured))
    return answers


def data_uri(pixels: np.ndarray) -> str:
    """A picture [3, H, W] in [0, 1] as a WebP data address."""
    values = np.clip(np.asarray(pixels, np.float32), 0, 1).transpose(1, 2, 0)
    image = Image.fromarray((values * 255).round().astype(np.uint8))
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=85, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def written(first: First) -> list:
    """An image as the page shows it: id, score with its error, whether it is right."""
    sure = "" if first.error is None else f" ± {first.error:.1g}"
    return [int(first.image), f"{first.score:.3g}{sure}", bool(first.right)]


def rounded(measured: Measured) -> list[float]:
    """A measured score as the page shows it."""
    return [round(float(value), 2) for value in measured]


def boards_of(linear: pd.DataFrame, ceiling: Mapping[str, float]) -> list[dict]:
    """A leaderboard for each kind of query, the best method first, of a table (method, kind,
    queries, lds, low, high) and what perfect scores would reach, by kind."""
    boards = []
    for kind, rows in linear.groupby("kind", sort=False):
        ranked = rows.sort_values("lds", ascending=False).itertuples()
        each = [[row.method, rounded(Measured(row.lds, row.low, row.high))] for row in ranked]
        most = round(float(ceiling[kind]), 2) if kind in ceiling else None
        board = {"kind": kind, "queries": int(rows.queries.max()), "ceiling": most, "rows": each}
        boards.append(board)
    return boards


def page(
    title: str,
    introduction: str,
    answers: list[Answer],
    images: dict[int, tuple[np.ndarray, str]],
    boards: Iterable[dict] = (),
    notebooks: Iterable[tuple] = (),
) -> str:
    """The page: needs no other file, no network, and a browser of the last five years.

    ``images``: pixels [3, H, W] in [0, 1] and caption of every image that an answer names;
    ``boards`` as of ``boards_of``, ``notebooks`` as of ``abu.report.links``. Raises ValueError for
    no query, KeyError for an image that is named and not given.
    """
    if not answers:
        raise ValueError("no query to show")
    named = {one.image for answer in answers for first in answer.answers.values() for one in first}
    if lacking := named - images.keys():
        raise KeyError(f"answers name images {sorted(lacking)[:5]}, which are not given")
    queries = [
        {
            "name": answer.name,
            "kind": answer.kind,
            "prompt": answer.prompt,
            "picture": data_uri(answer.picture),
            "answers": [[name, [*map(written, first)]] for name, first in answer.answers.items()],
            "after": [[name, data_uri(pixels)] for name, pixels in answer.after.items()],
            "judged": {name: rounded(measured) for name, measured in answer.judged.items()},
        }
        for answer in answers
    ]
    methods = {method for answer in answers for method in answer.answers}
    content = {
        "queries": queries,
        "images": {int(i): [data_uri(images[i][0]), images[i][1]] for i in sorted(named)},
        "colours": {method: look(method)[0] for method in sorted(methods)},
        "says": {method: METHODS_SAY[method] for method in sorted(methods & METHODS_SAY.keys())},
        "boards": list(boards),
        "notebooks": list(notebooks),
    }
    # no text can end the script
    data = json.dumps(content, allow_nan=False).replace("<", "\\u003c")
    text = TEMPLATE.read_text().replace("{{TITLE}}", html.escape(title))
    text = text.replace("{{INTRODUCTION}}", html.escape(introduction))
    return text.replace("{{DATA}}", data)
