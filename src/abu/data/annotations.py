"""Files that say which captions a picture has, in the forms in which they are published: COCO's
captions, Karpathy's splits, and the metadata of a folder as ``datasets`` reads it."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

Row = tuple[int, str, list[str], dict]
"""Id, file below the folder of pictures, captions, and all that the file says of the picture."""

SHARDS = (".tar", ".tgz", ".gz", ".zip")


def read_annotations(path: Path) -> list[Row]:
    """What an annotations file says of each picture, in its order.

    COCO: ``images`` (id, file_name), ``annotations`` (image_id, caption). Karpathy: ``images``
    (cocoid or imgid, filepath, filename, sentences with raw). A folder's ``.jsonl`` or ``.csv``:
    rows with file_name and text or caption, in jsonl also a list of them; a picture's id is the
    number of its first row, from 0, and more rows of it are more captions. An empty cell is none;
    an empty text elsewhere is a caption, that of a picture which is learned without words.

    Raises ValueError, which names the record, for another form or a caption that is no text.
    """
    path = Path(path)
    if path.suffix in SHARDS:
        raise ValueError(
            f"{path} is packed, as WebDataset's shards are; unpack it, and list its pictures in a "
            "metadata.jsonl: one {'file_name': ..., 'text': ...} a line"
        )
    reader = {".jsonl": folder, ".csv": folder}.get(path.suffix.lower(), published)
    try:
        return list(reader(path))
    except Refused:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, csv.Error) as error:
        found = f"found {type(error).__name__}: {error}"
        raise ValueError(f"{path} is not {EXPECTED[reader]}, {found}") from error


class Refused(ValueError):
    """What is said already names the record."""


def text(value: object, where: str) -> str:
    """A caption. Raises ``Refused`` for anything but a text that can be written."""
    if not isinstance(value, str):
        raise Refused(f"{where} has the caption {value!r}; expected a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{where} has the caption {value!r}, which is no Unicode: {error}") from error
    return value


def published(path: Path) -> Iterator[Row]:
    """COCO's form, or Karpathy's."""
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    images = content["images"]
    if "annotations" not in content and images and "sentences" in images[0]:
        for image in images:
            id = int(image["cocoid"] if "cocoid" in image else image["imgid"])
            where = f"{path}: image {id}"
            captions = [text(sentence["raw"], where) for sentence in image["sentences"]]
            file = Path(image.get("filepath", ""), image["filename"])
            yield id, str(file), captions, without(image, "filename", "sentences", "sentids")
        return
    texts: dict[int, list[str]] = {}
    for number, annotation in enumerate(content["annotations"]):
        id = int(annotation["image_id"])
        where = f"{path}: annotation {annotation.get('id', f'number {number}')} of image {id}"
        texts.setdefault(id, []).append(text(annotation["caption"], where))
    for image in images:
        id = int(image["id"])
        yield id, str(image["file_name"]), texts.get(id, []), image


def folder(path: Path) -> Iterator[Row]:
    """A folder's metadata: rows of one picture are one."""
    rows: dict[str, Row] = {}
    for number, record in enumerate(records(path)):
        where = f"{path}: row {number}"
        columns = [column for column in ("text", "caption") if column in record]
        if len(columns) > 1 or not isinstance(record.get("file_name"), str):
            raise Refused(f"{where} has {list(record)}; expected file_name, and text or caption")
        value = record[columns[0]] if columns else []
        if not value and path.suffix.lower() == ".csv":
            value = []
        captions = [text(raw, where) for raw in (value if isinstance(value, list) else [value])]
        fields, file = without(record, *columns), record["file_name"]
        first = rows.setdefault(file, (number, file, [], fields))
        if first[3] != fields:
            raise Refused(f"{where} and row {first[0]} differ on {file}: {fields}, {first[3]}")
        first[2].extend(captions)
    if rows and not any(captions for _, _, captions, _ in rows.values()):
        raise Refused(f"{path} has no column text or caption")
    yield from rows.values()


def records(path: Path) -> Iterator[dict]:
    """Rows of a ``.jsonl`` or ``.csv``; a csv's values are texts."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".jsonl":
            yield from (json.loads(line) for line in file if line.strip())
            return
        for number, row in enumerate(csv.DictReader(file, strict=True)):
            if None in row or None in row.values():
                raise Refused(f"{path}: row {number} has not as many cells as the header")
            yield row


def without(record: dict, *names: str) -> dict:
    return {name: value for name, value in record.items() if name not in names}


EXPECTED = {
    published: "a COCO captions file: expected images (id, file_name) and annotations (image_id, "
    "caption)",
    folder: "the metadata of a folder: expected rows with file_name, and text or caption",
}
