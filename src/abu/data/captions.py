"""Captioned images: an annotations file and a folder of pictures."""

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from abu.data.annotations import read_annotations
from abu.data.checks import check_counts
from abu.data.manifest import fingerprint


@dataclass(frozen=True)
class Captioned:
    """One image of a data set; ``fields`` are the other entries of its record (concept, style,
    ...)."""

    id: int
    path: Path
    captions: tuple[str, ...]
    fields: dict


def check_lists(keep: dict[str, list]) -> None:
    """Raise ValueError unless each field has a list of values: a text's letters are not meant."""
    if bad := {field: values for field, values in keep.items() if not isinstance(values, list)}:
        raise ValueError(f"keep has {bad}; expected a list of values for each field")


def allowed(fields: dict, keep: dict[str, list]) -> bool:
    """Whether a record has one of the values that are kept, of each field."""
    return all(fields.get(field) in values for field, values in keep.items())


def load_captions(
    annotations: Path,
    images: Path,
    keep: dict[str, list] | None = None,
    uncaptioned: str = "refuse",
    captions: int | None = None,
) -> list[Captioned]:
    """Records of an annotations file (``abu.data.annotations``) in the order of its images.

    ``keep`` maps a field to its allowed values, e.g. ``{"group": ["smileys-emotion"]}``.
    ``uncaptioned``: ``refuse`` images without a caption, or ``drop`` them and say how many.
    ``captions``: the first so many of an image, and how many are left out is said; None: all.
    Raises ValueError for a file of another form, a caption that is no text, duplicate ids, an image
    without a caption, an empty selection, or no caption asked for; FileNotFoundError for a missing
    image.
    """
    check_lists(keep or {})
    check_counts(**({} if captions is None else {"captions": captions}))
    if uncaptioned not in ("refuse", "drop"):
        raise ValueError(f"uncaptioned is {uncaptioned!r}; expected refuse or drop")
    rows = read_annotations(annotations)
    if repeated := [id for id, n in Counter(id for id, *_ in rows).items() if n > 1]:
        raise ValueError(f"{annotations} has duplicate image ids: {repeated[:5]}")
    rows = [row for row in rows if allowed(row[3], keep or {})]
    if not rows:
        raise ValueError(f"{annotations} has no image where {keep}")
    if bare := [id for id, _, texts, _ in rows if not texts]:
        if uncaptioned == "refuse" or len(bare) == len(rows):
            raise ValueError(
                f"{annotations} has no caption for images {bare[:5]}, {len(bare)} of {len(rows)}"
            )
        print(f"{len(bare)} of {len(rows)} images have no caption and are left out: {bare[:5]}")
        rows = [row for row in rows if row[2]]
    if missing := [file for _, file, *_ in rows if not (images / file).is_file()]:
        raise FileNotFoundError(
            f"{images} lacks {len(missing)} images of {annotations}: {missing[:5]}"
        )
    if captions and (more := sum(len(texts[captions:]) for _, _, texts, _ in rows)):
        print(f"{more} captions are left out: of an image those after the first {captions}")
    records = []
    for id, file, texts, record in rows:
        named = ("id", id), ("file_name", file)
        fields = {key: value for key, value in record.items() if (key, value) not in named}
        records.append(Captioned(id, images / file, tuple(texts[:captions]), fields))
    return records


def load_exemplars(
    sources: list[tuple[str, str]],
    keep: dict[str, list],
    train_prompt: str,
    taken: Collection[int] = (),
) -> list[Captioned]:
    """Exemplars of one customized model: records of annotations files (annotations, images) for
    which ``keep`` holds, each with ``train_prompt`` for a caption, in which ``{field}`` stands
    for a field of its record.

    Ids are names within their file: one that is ``taken``, or that an earlier file has too, gives
    way to a number made of the file's path and the id, the same in every model. Raises ValueError
    where none is left, a file's ids come twice or a field is unknown; and as ``load_captions``.
    """
    check_lists(keep)
    every = [
        (str(annotations), record)
        for annotations, images in sources
        for record in load_captions(Path(annotations), Path(images))
    ]
    chosen = {(source, r.id): r for source, r in every if allowed(r.fields, keep)}
    if not chosen:
        raise ValueError(
            f"no exemplar where {keep} in {[annotations for annotations, _ in sources]}"
        )
    records = list(chosen.values())
    found = lambda field: {record.fields[field] for record in records}
    if lacking := {f: gone for f, values in keep.items() if (gone := set(values) - found(f))}:
        raise ValueError(f"no exemplar has {lacking}; expected all of {keep}")
    times = Counter((source, record.id) for source, record in every)
    if repeated := [key for key in chosen if times[key] > 1]:
        raise ValueError(f"exemplars have duplicate ids: {[id for _, id in repeated[:5]]}")
    taken, first = set(taken), {record.id: source for source, record in reversed(every)}
    for (source, id), record in chosen.items():
        if id in taken or first[id] != source:
            chosen[source, id] = replace(record, id=int(fingerprint(source, id)[:12], 16))
    try:
        return [replace(r, captions=(train_prompt.format(**r.fields),)) for r in chosen.values()]
    except KeyError as error:
        raise ValueError(
            f"train prompt {train_prompt!r} asks for the field {error}; exemplars have "
            f"{list(records[0].fields)}"
        ) from error


def seen_in(records: list[Captioned], files: Collection[str]) -> list[str]:
    """Pictures of ``records`` that are among ``files``, by whatever path."""
    names = {record.path.name for record in records}
    file_paths = {os.path.realpath(file) for file in files if os.path.basename(file) in names}
    return [str(record.path) for record in records if os.path.realpath(record.path) in file_paths]
