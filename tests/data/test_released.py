"""Released latents and texts: what is taken of them, in which order, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import picture, stable_diffusion

from abu.data.captions import load_captions
from abu.data.prepared import Prepared
from abu.data.published import distractors
from abu.data.released import released
from abu.diffusion.components import Components, load_components
from abu.diffusion.encode import adopt
from abu.diffusion.noise import normals

IDS, C = [70, 20, 90, 10, 40], 2
N = len(IDS)
jpg = lambda id: f"{id:012d}.jpg"


@pytest.fixture(scope="module")
def components(tmp_path_factory) -> Components:
    folder = tmp_path_factory.mktemp("parts")
    stable_diffusion(folder)
    return load_components(folder)


@pytest.fixture
def files(tmp_path, components) -> dict:
    """Five pictures with ids in no order and two captions each, and what their authors would
    release of them."""
    texts = [
        [f"first of {id}", f"second of {id}", f"third of {id}"][: C + (id == 90)] for id in IDS
    ]
    for id in IDS:
        picture(tmp_path / "images" / jpg(id), id)
    named = [{"id": id, "file_name": jpg(id), "license": 1} for id in IDS]
    captions = [{"image_id": id, "caption": text} for id, few in zip(IDS, texts) for text in few]
    content = {"images": named, "annotations": captions}
    (tmp_path / "captions.json").write_text(json.dumps(content))
    return {
        "states": torch.stack([components.texts(few[:C]) for few in texts]),
        "latents": normals((2, 4, 8, 8), [("latents", id) for id in IDS]),
        "records": load_captions(tmp_path / "captions.json", tmp_path / "images"),
        "x": tmp_path / "latents.npy",
        "texts": tmp_path / "texts.npy",
        "order": tmp_path / "latents.json",
    }


def write(files: dict, latents: torch.Tensor, states: torch.Tensor) -> None:
    np.save(files["x"], np.asarray(latents))
    np.save(files["texts"], np.asarray(states))


def read(files: dict):
    return released(files["x"], files["texts"], files["records"])


def adopted(files: dict, components: Components, out: Path) -> Prepared:
    *arrays, records = read(files)
    out.mkdir(exist_ok=True)
    adopt(*arrays, records, components, out, 32)
    return Prepared(out, components.states)


@pytest.mark.parametrize("flips", [1, 2])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("order", ["annotations", "ids", "file names"])
def test_released_latents_and_texts_keep_their_images(
    tmp_path, files, components, order: str, flat: bool, flips: int
) -> None:
    place = [3, 0, 4, 2, 1] if order != "annotations" else list(range(N))  # the released order
    latents, states = files["latents"][place, :flips], files["states"][place]
    in_a_row = latents.transpose(0, 1).reshape(-1, 4, 8, 8)
    write(files, in_a_row, states.flatten(0, 1) if flat else states)
    if order != "annotations":
        listing = [IDS[i] if order == "ids" else jpg(IDS[i]) for i in place]
        files["order"].write_text(json.dumps(listing))
    data = adopted(files, components, tmp_path / "out")
    rows = data.rows(IDS)
    tensor = lambda array: torch.as_tensor(np.asarray(array))
    assert torch.equal(tensor(data.latents[rows]), files["latents"][:, :flips])
    assert torch.equal(tensor(data.texts[rows]), files["states"])
    table = data.images.set_index("id").loc[IDS]
    assert table.caption.tolist() == [f"first of {id}" for id in IDS] and table.license.eq(1).all()
    assert [Path(file).name for file in table.file] == [jpg(id) for id in IDS]
    assert data.manifest["captions"] == C and data.manifest["token_states"] == "float32"
    assert torch.equal(torch.as_tensor(data.empty), components.texts([""])[0])


@pytest.mark.parametrize(
    "order, message",
    [
        ([70, 20, 90, 10], "4 images are listed, 4 of them different; the annotations have 5"),
        ([70, 20, 90, 10, 10], "5 images are listed, 4 of them different"),
        ([70, 20, 90, 10, 41], r"1 listed images are not in the annotations: \[41\]"),
        (["a.jpg"] * 5, "5 listed images are not in the annotations"),
    ],
)
def test_an_order_of_other_images_is_refused(files, order: list, message: str) -> None:
    write(files, files["latents"][:, 0], files["states"])
    files["order"].write_text(json.dumps(order))
    with pytest.raises(ValueError, match=message):
        read(files)


def test_arrays_of_other_shapes_or_numbers_are_refused(tmp_path, files, components) -> None:
    x, states, out = files["latents"][:, 0], files["states"], tmp_path / "out"
    for latents, texts, message in (
        (x[:4], states, "found 4 latents, 5 texts, 5 pictures"),
        (x, states[:4], "found 5 latents, 4 texts, 5 pictures"),
        (x, states.flatten(0, 1)[:-1], "found 5 latents, 9 texts, 5 pictures"),
        (files["latents"], states, r"latents.npy \(5, 2, 4, 8, 8\)"),
        (x, states[:, :, 0, 0], r"texts.npy \(5, 2\)"),
        (x, states.repeat(1, 2, 1, 1), "has 4 captions an image; "
         r"images \[70, 20, 90\] have fewer in the annotations"),
    ):  # fmt: skip
        write(files, latents, texts)
        with pytest.raises(ValueError, match=message):
            read(files)
    broken = torch.where(x > 3, torch.nan, x) * torch.inf
    made = r"; the components make \({}\)"
    for latents, texts, error, message in (
        (x[..., :4], states, ValueError,
         r"latents are \(4, 8, 4\)" + made.format("4, 8, 8") + " at 32 pixels"),
        (x, states[..., :16], ValueError,
         r"token states are \(24, 16\)" + made.format("24, 32")),
        (broken, states, FloatingPointError, "latents of images number 0 to 4 are not all finite"),
        (x, states / 0, FloatingPointError,
         "token states of images number 0 to 4 are not all finite"),
    ):  # fmt: skip
        write(files, latents, texts)
        with pytest.raises(error, match=message):
            adopted(files, components, out)
        assert not (out / "manifest.json").exists() and not list(out.glob(".*"))
    with pytest.raises(FileNotFoundError, match="absent.npy is missing"):
        released(tmp_path / "absent.npy", files["texts"], files["records"])


def test_pictures_without_captions_are_counted_by_name(tmp_path, files, components) -> None:
    write(files, files["latents"][:, 0], files["states"][:, 0])
    x, states, records = distractors(files["x"], files["texts"], tmp_path / "images")
    assert x.shape == (N, 1, 4, 8, 8) and states.shape[:2] == (N, 1)
    assert [r.id for r in records] == list(range(N)) and {r.captions for r in records} == {("",)}
    assert [r.path.name for r in records] == sorted(jpg(id) for id in IDS)
