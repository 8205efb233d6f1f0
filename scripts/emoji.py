"""Provenance of the embedded data set: ``python scripts/emoji.py [OUT]`` rebuilds it from
pinned npm packages.

Needs ``npm`` and ``cairosvg``. Writes COCO captions folders: ``OUT`` holds three styles of every
concept, ``OUT/fluent-3d`` a fourth that no embedded model sees before it is customized. Artwork
licences go beside them.
"""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

SIDE = 64  # pixels
GROUPS = ("smileys-emotion", "animals-nature", "food-drink")
STYLES = {  # style: (package, folder of its pictures)
    "noto": ("emoji-datasource-google@16.0.0", "package/img/google/64"),
    "twemoji": ("emoji-datasource-twitter@16.0.0", "package/img/twitter/64"),
    "fluent": ("@lobehub/fluent-emoji-flat@1.1.0", "package/assets"),
    "fluent 3d": ("@lobehub/fluent-emoji-3d@1.1.0", "package/assets"),
}
DISTINCT = """
    grinning face; smiling face with sunglasses; smiling face with heart-eyes; smiling face with
    halo; smiling face with horns; cowboy hat face; partying face; nerd face; clown face; robot;
    alien; skull; ghost; pile of poo; face with medical mask; face with thermometer; angry face;
    enraged face; crying face; sleeping face; exploding head; hot face; cold face; star-struck;
    money-mouth face; zipper-mouth face; nauseated face; disguised face; grinning cat; smiling cat
    with heart-eyes; crying cat; pouting cat; see-no-evil monkey; hear-no-evil monkey; red heart;
    orange heart; yellow heart; green heart; blue heart; purple heart; black heart; white heart;
    brown heart; pink heart; broken heart; heart with arrow; heart on fire; two hearts; dog face;
    cat face; bear; monkey face; tiger face; lion; fox; rabbit face; mouse face; cow face;
    unicorn; penguin; owl; baby chick; horse face; wolf; lady beetle; fish; turtle; octopus; crab;
    butterfly; elephant; whale; red apple; green apple; banana; lemon; tangerine; watermelon;
    grapes; pineapple; carrot; pizza; hamburger; doughnut; cookie; birthday cake; hot beverage;
    cherries; pear; tomato; eggplant; ice cream; sunflower; rose; tulip; cactus; mushroom; four
    leaf clover; evergreen tree; palm tree
"""  # concepts that look different from each other
NAMES = "emojibase-data@17.0.0"
# ruff: noqa: E501 (tables of the licences)
LICENCES = """\
# Artwork and words of this data set

Every picture was composed on white and, where it was larger, reduced to 64 x 64 pixels; nothing else was changed.

| style | artwork | copyright | licence of the artwork | taken from the npm package |
|---|---|---|---|---|
| noto | Noto Color Emoji | Google LLC | images: Apache License 2.0 (the fonts: SIL OFL 1.1) | emoji-datasource-google 16.0.0 |
| twemoji | Twemoji | Twitter, Inc. and other contributors | CC BY 4.0, https://creativecommons.org/licenses/by/4.0/ | emoji-datasource-twitter 16.0.0 |
| fluent, fluent 3d | Fluent Emoji | Microsoft Corporation | MIT | @lobehub/fluent-emoji-flat 1.1.0, @lobehub/fluent-emoji-3d 1.1.0 |

Captions are made from the English names and keywords of Unicode CLDR (Copyright Unicode, Inc., Unicode License v3),
taken from emojibase-data 17.0.0 (MIT).
"""


def captions(name: str, keywords: list[str], style: str) -> list[str]:
    """Five captions of one picture: plain name, twice with the style, keywords that leave the name
    out, and both."""
    others = [
        word for word in keywords if word not in name.split() and word not in ("143", "face")
    ] or [name]
    return [
        name,
        f"{style} {name}",
        f"{name} in {style} style",
        f"{style} emoji: {', '.join(others[:3])}",
        f"{name}, {', '.join(others[1:3] or others)}",
    ]


def code(text: str) -> str:
    """Code points of an emoji without the presentation selector, on which packages disagree."""
    return "-".join(point for point in text.lower().split("-") if point != "fe0f")


def fetch(package: str, folder: Path) -> tarfile.TarFile:
    """Download one pinned npm package and open its archive."""
    packed = subprocess.run(
        ["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True
    )
    return tarfile.open(folder / packed.stdout.strip().splitlines()[-1])


def pictures(archive: tarfile.TarFile, folder: str) -> dict[str, Callable[[], Image.Image]]:
    """Code points -> a function that reads the picture, RGB on white, ``SIDE`` pixels."""

    def read(member: tarfile.TarInfo) -> Image.Image:
        data = archive.extractfile(member).read()
        if member.name.endswith(".svg"):
            import cairosvg

            data = cairosvg.svg2png(data, output_width=SIDE, output_height=SIDE)
        image = (
            Image.open(io.BytesIO(data))
            .convert("RGBA")
            .resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        )
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")

    found = (m for m in archive.getmembers() if Path(m.name).parent == Path(folder) and m.isfile())
    return {code(Path(m.name).stem): lambda m=m: read(m) for m in found}


def concepts(archive: tarfile.TarFile) -> Iterator[dict]:
    """Names, keywords, group and code points of the concepts in ``GROUPS``, in Unicode's order."""
    read = lambda name: json.load(archive.extractfile(f"package/en/{name}.json"))
    groups = {group["order"]: group["key"] for group in read("messages")["groups"]}
    for entry in sorted(read("data"), key=lambda entry: entry.get("order", 0)):
        if groups.get(entry.get("group")) in GROUPS:
            yield {
                "name": entry["label"].lower(),
                "keywords": [tag.lower() for tag in entry.get("tags", [])],
                "group": groups[entry["group"]],
                "code": code(entry["hexcode"]),
            }


def write(out: Path, styles: list[str], sources: dict[str, dict], entries: list[dict]) -> int:
    """Write one COCO captions folder and return its number of images."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    images, annotations, distinct = [], [], " ".join(DISTINCT.split()).split("; ")
    for number, entry in enumerate(entries):
        for style in styles:
            index = 10 * number + list(STYLES).index(
                style
            )  # stable: a style's id does not depend on which are written
            file = f"{index:06d}.png"
            sources[style][entry["code"]]().save(out / "images" / file, optimize=True)
            fields = {"concept": entry["name"], "style": style, "group": entry["group"]}
            fields["set"] = "distinct" if entry["name"] in distinct else "other"
            images.append({"id": index, "file_name": file, "width": SIDE, "height": SIDE, **fields})
            for place, caption in enumerate(captions(entry["name"], entry["keywords"], style)):
                annotations.append(
                    {"id": 10 * index + place, "image_id": index, "caption": caption}
                )
    (out / "captions.json").write_text(
        json.dumps({"images": images, "annotations": annotations}, indent=0)
    )
    return len(images)


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        sources = {
            style: pictures(fetch(package, Path(name)), folder)
            for style, (package, folder) in STYLES.items()
        }
        entries = [
            e
            for e in concepts(fetch(NAMES, Path(name)))
            if all(e["code"] in s for s in sources.values())
        ]
        *seen, aside = STYLES
        print(
            write(out, seen, sources, entries), write(out / "fluent-3d", [aside], sources, entries)
        )
    (out / "LICENCES.md").write_text(LICENCES)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
