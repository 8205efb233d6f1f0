"""Replies as text, as JSON and as a strip of pictures."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from abu.ask.asker import Asker, Reply
from abu.data.files import write_atomically

SHORT = 60  # characters of a caption in the text
UNPROMPTED = (
    "without a prompt the ranking says little: give it (--prompt), or let it be guessed (--guess)"
)


def as_text(reply: Reply) -> str:
    """A heading, the flag, and a line for each image."""
    question = reply.question
    prompt = "no prompt" if question.prompt is None else repr(question.prompt)
    prompt += " (guessed)" * question.guessed
    said = "NOTHING STANDS OUT" if reply.nothing else "some images stand out"
    lines = [f"{question.file}, {prompt}", f"{said}: {reply.why}"]
    if question.prompt is None:
        lines.append(UNPROMPTED)
    lines.append(f"{'rank':>4} {'image':>8} {'score':>10} {'+-':>9}  caption")
    for row in reply.table.itertuples():
        caption = row.caption if len(row.caption) <= SHORT else row.caption[: SHORT - 3] + "..."
        numbers = f"{row.score:10.3g} {row.standard_error:9.1g}"
        lines.append(f"{row.rank:>4} {row.id!s:>8} {numbers}  {caption}")
    return "\n".join(lines)


def as_json(asker: Asker, replies: Sequence[Reply], exact: bool, region) -> str:
    """All replies with what was asked; a number that there is not is null."""
    of = lambda reply: {
        "picture": str(reply.question.file),
        "prompt": reply.question.prompt,
        "guessed": reply.question.guessed,
        "nothing_stands_out": reply.nothing,
        "why": reply.why,
        "images": json.loads(reply.table.to_json(orient="records", double_precision=15)),
    }
    facts = {"system": asker.system.name, "exact": exact, "region": region and list(region)}
    facts["replies"] = [of(reply) for reply in replies]
    return json.dumps(facts, indent=1, ensure_ascii=False)


def write_strip(path: Path, asker: Asker, replies: Sequence[Reply]) -> None:
    """A row a picture as PNG: it, then the images with their scores; what lies outside a region
    is faded."""
    import matplotlib.pyplot as plt  # two seconds that only a strip needs

    from abu.report.pictures import strips

    pixels = [reply.question.pixels for reply in replies]
    names = [reply.question.file.name + "\nnothing stands out" * reply.nothing for reply in replies]
    looked = lambda file: asker.system.picture(asker.root / file)
    tops = [[*map(looked, reply.table.file)] for reply in replies]
    scores = np.array([reply.table.score for reply in replies])
    regions = [reply.question.region for reply in replies]
    figure = strips(pixels, names, tops, scores, np.zeros(scores.shape, bool), regions=regions)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=150))
    plt.close(figure)
