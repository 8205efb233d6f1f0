"""How often "nothing stands out" is wrong: ``python benchmarks/standing.py``, after the study.

Prints, and writes to ``benchmarks/standing.csv``, how many are flagged of the model's own pictures
(queries that do not bound the loss), of held-out and training images, other pictures of the same
kind, and pictures from elsewhere; apart for the half that chose the rule and the other.
"""

import tempfile
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from abu import ROOT
from abu.ask.load import load_asker
from abu.ask.questions import read_question
from abu.ask.standing import MOST
from abu.data.prepared import Prepared
from abu.diffusion.noise import stream
from abu.study.system import load_queries

CROPS, MADE = 15, 8  # of each photograph; of each kind of texture
CHOSEN = ("china.jpg", "flower.jpg")  # photographs of the half that chose the rule


def photographs() -> dict[str, np.ndarray]:
    """Those that come with scikit-learn and matplotlib, uint8 [h, w, 3]."""
    found = load_sample_images()
    hopper = Path(matplotlib.get_data_path(), "sample_data/grace_hopper.jpg")
    named = {Path(name).name: image for name, image in zip(found.filenames, found.images)}
    return named | {hopper.name: np.asarray(Image.open(hopper).convert("RGB"))}


def crop(image: np.ndarray, *key) -> np.ndarray:
    """A square of a quarter to four fifths of the shorter side."""
    draws = stream("crop", *key)
    side = int(min(image.shape[:2]) * draws.uniform(0.25, 0.8))
    top, left = (int(draws.integers(0, n - side + 1)) for n in image.shape[:2])
    return image[top : top + side, left : left + side]


def texture(kind: str, number: int, n: int = 128) -> np.ndarray:
    """Noise of a falling spectrum, stripes, squares, a gradient or one colour, uint8 [n, n, 3]."""
    draws = stream("texture", kind, number)
    y, x = np.mgrid[:n, :n] / n
    first, second = draws.uniform(0, 255, (2, 3))
    if kind == "noise":
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n)))
        frequency[0, 0] = 1 / n
        white = np.fft.fft2(draws.normal(size=(3, n, n)))
        field = np.fft.ifft2(white / frequency ** draws.uniform(0, 2)).real.transpose(1, 2, 0)
        return (128 + 55 * (field - field.mean()) / field.std()).clip(0, 255).astype(np.uint8)
    angle, count = draws.uniform(0, np.pi), draws.integers(3, 20)
    along = x * np.cos(angle) + y * np.sin(angle)
    share = {
        "stripes": np.sin(2 * np.pi * count * along) > 0,
        "squares": (np.floor(x * count) + np.floor(y * count)) % 2,
        "gradient": (along - along.min()) / np.ptp(along),
        "colour": np.zeros((n, n)),
    }[kind]
    return (first + (second - first) * share[..., None]).clip(0, 255).astype(np.uint8)


def others(folder: Path, captions: Path, known: set[str], count: int) -> list[Path]:
    """Pictures of the data that no model trained on, spread."""
    names = [image["file_name"] for image in pd.read_json(captions, typ="series")["images"]]
    left = [folder / name for name in names if name not in known]
    return left[:: max(1, len(left) // count)][:count]


def main() -> None:
    asker = load_asker()
    system, standing = asker.system, asker.standing
    rows: list[tuple] = []

    def add(kind: str, half: int, name: str, latents, text, prompted: bool) -> None:
        flagged = standing.judge(name, latents, text, prompted)[0]
        rows.append((kind, "with" if prompted else "without", half, flagged))

    table, queries, _ = load_queries(tuning=False)
    bounding = set(standing.queries.names[:MOST])
    with_prompts = [n for n, p in zip(standing.queries.names, standing.prompted) if p][:MOST]
    for q, (name, prompt) in enumerate(zip(table.name, table.prompt)):
        x, text = queries.latents[q], queries.texts[q]
        if name not in bounding:
            add("drawn by the model", q % 2, name, x, system.empty, False)
        if prompt and name not in with_prompts:
            add("drawn by the model", q % 2, name, x, text, True)
    data = Prepared(ROOT / "results/prepare", system.components.states)
    trained = set(system.images.ids)
    for number, id in enumerate(data.ids):
        kind = "trained on" if id in trained else "held out"
        if kind == "trained on" and number % 5:
            continue
        x, text = data.latents[number, 0], data.texts[number, 0]
        add(kind, len(rows) // 2 % 2, f"image {id}", x, text, True)
        add(kind, len(rows) // 2 % 2, f"image {id}", x, system.empty, False)
    prompts = [prompt for prompt in table.prompt if prompt]
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for source, image in photographs().items():
            for number in range(CROPS):
                path = Path(folder, f"{source}-{number}.png")
                Image.fromarray(crop(image, source, number)).save(path)
                files.append(("photographs", int(source not in CHOSEN), path))
        for texture_ in ("noise", "stripes", "squares", "gradient", "colour"):
            for number in range(MADE):
                path = Path(folder, f"{texture_}-{number}.png")
                Image.fromarray(texture(texture_, number)).save(path)
                files.append(("textures", number % 2, path))
        known = {Path(file).name for file in data.images.file}
        for kind, where in (("other emoji", ROOT / "data"), ("fluent 3d", ROOT / "data/fluent-3d")):
            seen = known if kind == "other emoji" else set()
            found = others(where / "images", where / "captions.json", seen, 50)
            files += [(kind, number % 2, path) for number, path in enumerate(found)]
        for number, (kind, half, path) in enumerate(files):
            asked = [None]
            if kind in ("photographs", "textures"):
                asked.append(prompts[number % len(prompts)])
            for prompt in asked:
                one = read_question(system, path, prompt)
                add(kind, half, one.name, one.latents, one.text, prompt is not None)
    columns = ["picture", "prompt", "half", "flagged"]
    flags = pd.DataFrame(rows, columns=columns).groupby(columns[:3]).flagged
    rates = flags.agg(flagged="sum", asked="count").reset_index()
    rates["half"] = rates.half.map({0: "chose the rule", 1: "other"})
    rates.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(rates.to_string(index=False))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
