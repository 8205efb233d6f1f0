"""One self-contained HTML page on which a reader picks a query and sees every method's answer;
arrays in, text out."""

import base64
import html
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from abu.judge.recovery import best

TEMPLATE = Path(__file__).with_suffix(".html")


@dataclass(frozen=True)
class Answer:
    """A query's picture [3, H, W] in [0, 1], each method's first images (id, score, known to be
    right), best first, and pictures [3, H, W] that other models drew of it, by name."""

    name: str
    kind: str
    prompt: str
    picture: np.ndarray
    answers: dict[str, list[tuple[int, float, bool]]]
    after: dict[str, np.ndarray] = field(default_factory=dict)


def answers_of(
    queries: pd.DataFrame,
    pictures: np.ndarray,
    scores: Iterable[tuple[str, pd.DataFrame]],
    right: dict[int, set[int]],
    top: int,
    after: dict[str, np.ndarray] | None = None,
) -> list[Answer]:
    """Answers of all methods, whose ``scores`` (query, image_id, score) come one after the other,
    for the rows of ``queries`` (query, name, kind, prompt), whose ``pictures`` are [Q, 3, H, W];
    ``right``: ids known to be right, by query; ``after``: pictures [Q, 3, H, W] by name."""
    firsts = {method: best(part, queries["query"].tolist(), top) for method, part in scores}
    rows = queries[["query", "name", "kind", "prompt"]].rename_axis(None).itertuples(index=False)
    answers = []
    for i, row in enumerate(rows):
        known = right.get(row.query, set())
        shown = {
            method: [(int(id), float(s), int(id) in known) for id, s in zip(ids[i], values[i])]
            for method, (ids, values) in firsts.items()
        }
        redrawn = {name: drawn[i] for name, drawn in (after or {}).items()}
        answers.append(Answer(row.name, row.kind, row.prompt, pictures[i], shown, redrawn))
    return answers


def data_uri(pixels: np.ndarray, side: int = 128) -> str:
    """A picture [3, H, W] in [0, 1] as a WebP data address, at most ``side`` pixels wide, high."""
    image = Image.fromarray(
        (np.clip(np.asarray(pixels, np.float32), 0, 1) * 255)
        .round()
        .astype(np.uint8)
        .transpose(1, 2, 0)
    )
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=85, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def page(
    title: str, introduction: str, answers: list[Answer], images: dict[int, tuple[np.ndarray, str]]
) -> str:
    """The page: needs no other file, no network, and a browser of the last five years.

    ``images``: pixels [3, H, W] in [0, 1] and caption of every image that an answer names. Raises
    ValueError for no query, KeyError for an image that is named and not given.
    """
    if not answers:
        raise ValueError("no query to show")
    named = {
        image for answer in answers for first in answer.answers.values() for image, *_ in first
    }
    if lacking := named - images.keys():
        raise KeyError(f"answers name images {sorted(lacking)[:5]}, which are not given")
    first = lambda shown: [[int(i), f"{score:.3g}", bool(right)] for i, score, right in shown]
    queries = [
        {
            "name": answer.name,
            "kind": answer.kind,
            "prompt": answer.prompt,
            "picture": data_uri(answer.picture),
            "answers": [[method, first(shown)] for method, shown in answer.answers.items()],
            "after": [[name, data_uri(pixels)] for name, pixels in answer.after.items()],
        }
        for answer in answers
    ]
    shown = {int(image): [data_uri(images[image][0]), images[image][1]] for image in sorted(named)}
    data = json.dumps({"queries": queries, "images": shown}).replace(
        "<", "\\u003c"
    )  # no text can end the script
    text = TEMPLATE.read_text()
    for name, value in {
        "TITLE": html.escape(title),
        "INTRODUCTION": html.escape(introduction),
        "DATA": data,
    }.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text
