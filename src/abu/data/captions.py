"""Captioned images in COCO captions form: ``captions.json`` (or any annotations file) and a folder
of images."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Captioned:
    """One image of a data set; ``fields`` are the other entries of its COCO record (concept, style,
    ...)."""

    id: int
    path: Path
    captions: tuple[str, ...]
    fields: dict


def check_lists(keep: dict[str, list]) -> None:
    """Raise ValueError unless each field has a list of values: a text's letters are not meant."""
    if bad := {field: values for field, values in keep.items() if not isinstance(values, list)}:
        raise ValueError(f"keep has {bad}; expected a list of values for each field")


def load_captions(
    annotations: Path, images: Path, keep: dict[str, list] | None = None
) -> list[Captioned]:
    """Records of a COCO captions file in the order of its ``images`` list.

    ``keep`` maps a field to its allowed values, e.g. ``{"group": ["smileys-emotion"]}``. Raises
    ValueError for a file not in COCO form, duplicate ids, an image without a caption, or an empty
    selection; FileNotFoundError for a missing image.
    """
    check_lists(keep or {})
    try:
        content = json.loads(Path(annotations).read_text())
        entries = [
            (int(image["id"]), str(image["file_name"]), image) for image in content["images"]
        ]
        texts: dict[int, list[str]] = {}
        for annotation in content["annotations"]:
            texts.setdefault(int(annotation["image_id"]), []).append(str(annotation["caption"]))
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        expected = "images (id, file_name) and annotations (image_id, caption)"
        raise ValueError(
            f"{annotations} is not a COCO captions file: expected {expected}, found {error!r}"
        ) from error
    if repeated := [id for id, n in Counter(id for id, *_ in entries).items() if n > 1]:
        raise ValueError(f"{annotations} has duplicate image ids: {repeated[:5]}")
    entries = [
        e
        for e in entries
        if all(e[2].get(field) in values for field, values in (keep or {}).items())
    ]
    if not entries:
        raise ValueError(f"{annotations} has no image where {keep}")
    if bare := [id for id, *_ in entries if id not in texts]:
        raise ValueError(f"{annotations} has no caption for images {bare[:5]}")
    if missing := [file for _, file, _ in entries if not (images / file).is_file()]:
        raise FileNotFoundError(
            f"{images} lacks {len(missing)} images of {annotations}: {missing[:5]}"
        )
    return [
        Captioned(
            id,
            images / file,
            tuple(texts[id]),
            {k: v for k, v in image.items() if k not in ("id", "file_name")},
        )
        for id, file, image in entries
    ]


def load_exemplars(
    sources: list[tuple[str, str]], keep: dict[str, list], train_prompt: str
) -> list[Captioned]:
    """Exemplars of one customized model: records of COCO captions files (annotations, images) for
    which ``keep`` holds, each with ``train_prompt`` for a caption, in which ``{field}`` stands
    for a field of its record.

    Raises ValueError where none is left, ids come twice or a field is unknown; and as
    ``load_captions``.
    """
    check_lists(keep)
    every = [
        record
        for annotations, images in sources
        for record in load_captions(Path(annotations), Path(images))
    ]
    chosen = [
        r for r in every if all(r.fields.get(field) in values for field, values in keep.items())
    ]
    if not chosen:
        raise ValueError(
            f"no exemplar where {keep} in {[annotations for annotations, _ in sources]}"
        )
    if lacking := {
        field: gone
        for field, values in keep.items()
        if (gone := set(values) - {r.fields[field] for r in chosen})
    }:
        raise ValueError(f"no exemplar has {lacking}; expected all of {keep}")
    if repeated := [id for id, n in Counter(r.id for r in chosen).items() if n > 1]:
        raise ValueError(f"exemplars have duplicate ids: {repeated[:5]}")
    try:
        return [replace(r, captions=(train_prompt.format(**r.fields),)) for r in chosen]
    except KeyError as error:
        raise ValueError(
            f"train prompt {train_prompt!r} asks for the field {error}; exemplars have "
            f"{list(chosen[0].fields)}"
        ) from error
