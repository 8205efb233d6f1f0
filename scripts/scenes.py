"""Provenance of the scenes, where neither pixels nor captions decide: ``python scripts/scenes.py
[OUT]`` composes them from the embedded pictures.

Pictures of 20 concepts in three styles stand alone, or two side by side, each at a random size and
place and half of them mirrored; of a tenth of the scenes the caption names others than are shown, a
tenth has none. Writes a COCO captions folder: of each concept its record says whether it is shown
(1 or 0), and ``captioned`` how: ``right``, ``wrong`` or ``none``.
"""

import json
import sys
from pathlib import Path

from PIL import Image, ImageChops, ImageOps

from abu import ROOT
from abu.diffusion.noise import permutation, stream

SIDE, STEP = 64, 8  # pixels; sizes and places go by the latter, a place of the latents
ALONE, BESIDE = 52, 260  # scenes of one picture, and of two
SIZES = (24, 32)  # pixels of a picture's longer edge
WRONG = MISSING = 0.1  # of the captions
CONCEPTS = (
    "alien; skull; ghost; pile of poo; red heart; green heart; owl; fish; butterfly; unicorn; "
    "red apple; banana; hamburger; sunflower; cactus; mushroom"
).split("; ")
TUNING = ["fox", "whale", "doughnut", "palm tree"]  # concepts of the queries that choose
APART = {16: 3, 4: 1}  # of so many concepts: how far in the list are two that queries ask for
Picture = dict  # a record of the embedded data: concept, style, file_name


def cut_out(path: Path) -> Image.Image:
    """A picture without the white around it."""
    picture = Image.open(path).convert("RGB")
    shown = ImageChops.difference(picture, Image.new("RGB", picture.size, "white"))
    return picture.crop(shown.getbbox())


def placed(scene: Image.Image, picture: Image.Image, box: tuple, *name) -> None:
    """Paste a picture into a box (left, top, right, bottom) of a scene, at a size and place and
    mirrored or not as the draw of that name says."""
    draw = stream("scene", *name)
    longer = int(draw.choice(SIZES))
    picture = ImageOps.pad(picture, (longer, longer), Image.Resampling.LANCZOS, "white")
    left, top = (int(draw.choice(range(box[i], box[i + 2] - longer + 1, STEP))) for i in (0, 1))
    scene.paste(ImageOps.mirror(picture) if draw.random() < 0.5 else picture, (left, top))


def composed(pictures: list[Picture], images: Path, *name) -> Image.Image:
    """A scene of one picture, or of two side by side."""
    scene, edge = Image.new("RGB", (SIDE, SIDE), "white"), SIDE // len(pictures)
    for place, picture in enumerate(pictures):
        box = (place * edge, 0, (place + 1) * edge, SIDE)
        shown = cut_out(images / picture["file_name"])
        placed(scene, shown, box, *name, place)
    return scene


def asked_together(concepts: list[str]) -> list[tuple[str, str]]:
    """Which two, from left to right, queries ask for, and no scene shows together."""
    count = len(concepts)
    pairs = [(concept, concepts[(i + APART[count]) % count]) for i, concept in enumerate(concepts)]
    return pairs + [(right, left) for left, right in pairs]


def drawn(pictures: list[Picture], apart: list[tuple[str, str]]) -> list[list[Picture]]:
    """Which pictures each scene shows: every one about as often as any other, and no two together
    of one concept or of two that are to be ``apart``."""
    never = {frozenset(pair) for pair in apart} | {frozenset([p["concept"]]) for p in pictures}
    one = [pictures[i] for i in permutation(len(pictures), "alone")[:ALONE]]
    turns = 1 - (-2 * BESIDE // len(pictures))  # one more, of which what fits nowhere is left
    waiting = [pictures[i] for t in range(turns) for i in permutation(len(pictures), "beside", t)]
    two = []
    while len(two) < BESIDE:
        first = waiting.pop(0)
        pairs = [frozenset([first["concept"], picture["concept"]]) for picture in waiting]
        two.append([first, waiting.pop([pair in never for pair in pairs].index(False))])
    scenes = [[picture] for picture in one] + two
    return [scenes[i] for i in permutation(len(scenes), "scenes")]


def caption(pictures: list[Picture]) -> str:
    """The names, from left to right."""
    return " and ".join(picture["concept"] for picture in pictures)


def captioned(scenes: list[list[Picture]]) -> list[tuple[str, str]]:
    """How each scene is captioned, and its caption."""
    order, texts = permutation(len(scenes), "captions"), [caption(scene) for scene in scenes]
    wrong, missing = round(WRONG * len(scenes)), round(MISSING * len(scenes))
    found = [("right", text) for text in texts]
    for i in range(wrong):  # each has the caption of the next one
        found[order[i]] = "wrong", texts[order[(i + 1) % wrong]]
    for i in order[wrong : wrong + missing]:
        found[i] = "none", ""
    return found


def main(out: str = "data/scenes") -> None:
    folder, records = Path(out), json.loads((ROOT / "data/captions.json").read_text())["images"]
    concepts, apart = CONCEPTS + TUNING, asked_together(CONCEPTS) + asked_together(TUNING)
    scenes = drawn([record for record in records if record["concept"] in concepts], apart)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for id, (pictures, (kind, text)) in enumerate(zip(scenes, captioned(scenes))):
        file = f"{id:03}.png"
        composed(pictures, ROOT / "data/images", id).save(folder / "images" / file, optimize=True)
        shown = [picture["concept"] for picture in pictures]
        record = {"id": id, "file_name": file, "captioned": kind, "pictures": len(pictures)}
        images.append(record | {concept: int(concept in shown) for concept in concepts})
        annotations.append({"image_id": id, "caption": text})
    content = {"images": images, "annotations": annotations}
    (folder / "captions.json").write_text(json.dumps(content, indent=0))
    print(f"{len(images)} scenes of {len(concepts)} concepts are in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
