"""Released files: what is taken of them, in which order, and what is refused. Nothing in a file is ever run."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import UNET, picture, stable_diffusion, tiny_unet
from safetensors.torch import save_file

from abu import ROOT
from abu.core.fisher import load_fisher
from abu.data.captions import load_captions
from abu.data.prepared import Prepared
from abu.data.published import distractors
from abu.data.released import released
from abu.diffusion.components import load_components
from abu.diffusion.encode import adopt
from abu.diffusion.noise import normals
from abu.diffusion.unet import load_weights, select_weights

CONFIG = UNET | {"cross_attention_dim": 128}
N, C = 5, 2


class Bomb:
    """Pickled, it writes a file when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def save(path: Path, tensors) -> Path:
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


@pytest.mark.parametrize("name", ["model.bin", "model.safetensors"])
def test_released_weights_are_the_model_that_was_saved(tmp_path, name: str) -> None:
    theirs = tiny_unet()
    ours = load_weights(save(tmp_path / name, theirs.state_dict()), CONFIG)
    assert ours.config.cross_attention_dim == 128 and not any(p.requires_grad for p in ours.parameters()) and not ours.training
    x, text = normals((4, 16, 16), [("x", 0)]), normals((24, 128), [("text", 0)])
    assert torch.equal(ours(x, 500, text).sample, theirs(x, 500, text).sample)


def test_weights_of_another_model_are_refused(tmp_path) -> None:
    own = tiny_unet().state_dict()
    first = next(iter(own))
    for change, message in (
        ({name: value for name, value in own.items() if name != first}, f"lacks 1 of {len(own)} weights: \\['{first}'\\]"),
        (own | {"conv_new.weight": torch.zeros(1)}, "has 1 entries that the U-Net of train.unet lacks: \\['conv_new.weight'\\]"),
        (own | {first: torch.zeros(2)}, f"{first} has the shape \\(2,\\); expected"),
        (own | {first: {"nested": torch.zeros(2)}}, f"{first} has the shape dict; expected"),
        (list(own.values())[1:], f"holds {len(own) - 1}; expected {len(own)} tensors"),
    ):
        with pytest.raises(ValueError, match=message):
            load_weights(save(tmp_path / "model.bin", change), CONFIG)
    with pytest.raises(FloatingPointError, match=f"{first}: 1 of .* values are not finite"):
        broken = own[first].clone()
        broken.flatten()[0] = torch.nan
        load_weights(save(tmp_path / "model.bin", own | {first: broken}), CONFIG)


def test_fisher_information_by_name_or_in_order(tmp_path) -> None:
    unet = tiny_unet()
    shapes = {name: tuple(unet.get_parameter(name).shape) for name in select_weights(unet, "cross-attn-kv")}
    whole = {name: normals(tuple(p.shape), [("fisher", name)])[0].square() for name, p in unet.named_parameters()}
    by_name = load_fisher(save(tmp_path / "fisher.pt", whole), shapes)
    assert list(by_name) == list(shapes) and all(torch.equal(by_name[name], whole[name].double()) for name in shapes)
    listed = load_fisher(save(tmp_path / "list.pt", [whole[name] for name in shapes]), shapes)
    assert all(torch.equal(listed[name], by_name[name]) for name in shapes)
    first = next(iter(shapes))
    with pytest.raises(ValueError, match=f"{first} has negative values"):
        load_fisher(save(tmp_path / "fisher.pt", whole | {first: -whole[first]}), shapes)
    with pytest.raises(ValueError, match=f"lacks 1 of {len(shapes)} weights"):
        load_fisher(save(tmp_path / "fisher.pt", {name: value for name, value in whole.items() if name != first}), shapes)
    with pytest.raises(ValueError, match=f"holds 1; expected {len(shapes)} tensors"):
        load_fisher(save(tmp_path / "fisher.pt", [whole[first]]), shapes)
    with pytest.raises(FloatingPointError, match="not finite"):
        load_fisher(save(tmp_path / "fisher.pt", whole | {first: torch.full(shapes[first], torch.inf)}), shapes)


def test_no_code_in_a_released_file_is_run(tmp_path) -> None:
    sign = tmp_path / "ran"
    own = tiny_unet().state_dict()
    with (tmp_path / "plain.bin").open("wb") as file:
        pickle.dump({"weight": Bomb(sign)}, file)
    np.save(tmp_path / "latents.npy", np.array([Bomb(sign)], object))
    for path in (save(tmp_path / "model.bin", own | {"more": Bomb(sign)}), tmp_path / "plain.bin"):
        with pytest.raises(ValueError, match="holds no tensors that can be read safely"):
            load_weights(path, CONFIG)
        with pytest.raises(ValueError, match="holds no tensors that can be read safely"):
            load_fisher(path, {})
    for name in ("latents.npy", "plain.bin"):
        with pytest.raises(ValueError, match=f"{name} holds no array that can be read safely"):
            released(tmp_path / name, tmp_path / name, [])
    assert not sign.exists()
    torch.load(tmp_path / "model.bin", weights_only=False)
    assert sign.exists(), "the file does what it should not, where it is let"


@pytest.fixture(scope="module")
def components(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    stable_diffusion(folder)
    return load_components(folder)


@pytest.fixture
def files(tmp_path, components) -> dict:
    """Five pictures with ids in no order and two captions each, and what their authors would release of them."""
    ids = [70, 20, 90, 10, 40]
    for id in ids:
        picture(tmp_path / "images" / f"{id:012d}.jpg", id)
    texts = [[f"first of {id}", f"second of {id}", f"third of {id}"][: C + (id == 90)] for id in ids]
    listed = {"images": [{"id": id, "file_name": f"{id:012d}.jpg", "license": 1} for id in ids],
        "annotations": [{"image_id": id, "caption": text} for id, own in zip(ids, texts) for text in own]}  # fmt: skip
    (tmp_path / "captions.json").write_text(json.dumps(listed))
    states = torch.stack([components.texts(own[:C]) for own in texts])
    latents = normals((2, 4, 8, 8), [("latents", id) for id in ids])
    return {
        "ids": ids, "states": states, "latents": latents, "records": load_captions(tmp_path / "captions.json", tmp_path / "images"),
        "x": tmp_path / "latents.npy", "texts": tmp_path / "texts.npy", "order": tmp_path / "latents.json",
    }  # fmt: skip


def write(files: dict, latents, states) -> None:
    np.save(files["x"], np.asarray(latents))
    np.save(files["texts"], np.asarray(states))


def prepared(files: dict, components, out: Path) -> Prepared:
    *arrays, records = released(files["x"], files["texts"], files["records"])
    out.mkdir(exist_ok=True)
    adopt(*arrays, records, components, out, 32)
    return Prepared(out, components.states)


@pytest.mark.parametrize("flips", [1, 2])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("order", ["annotations", "ids", "file names"])
def test_released_latents_and_texts_keep_their_images(tmp_path, files, components, order: str, flat: bool, flips: int) -> None:
    place = [3, 0, 4, 2, 1] if order != "annotations" else list(range(N))  # the released order
    latents, states = files["latents"][place, :flips], files["states"][place]
    write(files, latents.transpose(0, 1).reshape(-1, 4, 8, 8), states.reshape(-1, *states.shape[2:]) if flat else states)
    if order != "annotations":
        files["order"].write_text(json.dumps([id if order == "ids" else f"{id:012d}.jpg" for id in np.array(files["ids"])[place].tolist()]))
    data = prepared(files, components, tmp_path / "out")
    rows = data.rows(files["ids"])
    assert torch.equal(torch.as_tensor(np.asarray(data.latents[rows])), files["latents"][:, :flips])
    assert torch.equal(torch.as_tensor(np.asarray(data.texts[rows])), files["states"])
    table = data.images.set_index("id").loc[files["ids"]]
    assert table.caption.tolist() == [f"first of {id}" for id in files["ids"]] and table.license.eq(1).all()
    assert [Path(file).name for file in table.file] == [f"{id:012d}.jpg" for id in files["ids"]]
    assert data.manifest["captions"] == C and data.manifest["token_states"] == "float32"
    assert torch.equal(torch.as_tensor(data.empty), components.texts([""])[0])


@pytest.mark.parametrize("order, message", [
    ([70, 20, 90, 10], "4 images are listed, 4 of them different; the annotations have 5"),
    ([70, 20, 90, 10, 10], "5 images are listed, 4 of them different"),
    ([70, 20, 90, 10, 41], r"1 listed images are not in the annotations: \[41\]"),
    (["a.jpg"] * 5, "5 listed images are not in the annotations"),
])  # fmt: skip
def test_an_order_of_other_images_is_refused(files, order, message) -> None:
    write(files, files["latents"][:, 0], files["states"])
    files["order"].write_text(json.dumps(order))
    with pytest.raises(ValueError, match=message):
        released(files["x"], files["texts"], files["records"])


def test_arrays_of_other_shapes_or_numbers_are_refused(tmp_path, files, components) -> None:
    x, states = files["latents"][:, 0], files["states"]
    for latents, texts, message in (
        (x[:4], states, "found 4 latents, 5 texts, 5 pictures"),
        (x, states[:4], "found 5 latents, 4 texts, 5 pictures"),
        (x, states.flatten(0, 1)[:-1], "found 5 latents, 9 texts, 5 pictures"),
        (files["latents"], states, r"latents.npy \(5, 2, 4, 8, 8\)"),
        (x, states[:, :, 0, 0], r"texts.npy \(5, 2\)"),
        (x, states.repeat(1, 2, 1, 1), r"has 4 captions an image; images \[70, 20, 90\] have fewer in the annotations"),
    ):
        write(files, latents, texts)
        with pytest.raises(ValueError, match=message):
            released(files["x"], files["texts"], files["records"])
    for latents, texts, error, message in (
        (x[..., :4], states, ValueError, r"latents are \(4, 8, 4\); the components make \(4, 8, 8\) at 32 pixels"),
        (x, states[..., :16], ValueError, r"token states are \(24, 16\); the components make \(24, 32\)"),
        (torch.where(x > 3, torch.nan, x) * torch.inf, states, FloatingPointError, "latents of images number 0 to 4 are not all finite"),
        (x, states / 0, FloatingPointError, "token states of images number 0 to 4 are not all finite"),
    ):
        write(files, latents, texts)
        with pytest.raises(error, match=message):
            prepared(files, components, tmp_path / "out")
        assert not (tmp_path / "out/manifest.json").exists() and not list((tmp_path / "out").glob(".*"))
    with pytest.raises(FileNotFoundError, match="absent.npy is missing"):
        released(tmp_path / "absent.npy", files["texts"], files["records"])


def test_a_model_may_have_another_noise_schedule_than_its_autoencoder() -> None:
    source = ROOT / "data/components"
    changed = load_components(source, schedule={"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}).scheduler
    expected = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    torch.testing.assert_close(changed.alphas_cumprod.double(), expected, rtol=1e-4, atol=1e-7)
    assert changed.config.prediction_type == load_components(source).scheduler.config.prediction_type
    with pytest.raises(KeyError, match="the scheduler has no .'beta_shedule'"):
        load_components(source, schedule={"beta_shedule": "linear"})


def test_pictures_without_captions_are_counted_by_name(tmp_path, files, components) -> None:
    write(files, files["latents"][:, 0], files["states"][:, 0])
    x, states, records = distractors(files["x"], files["texts"], tmp_path / "images")
    assert x.shape == (N, 1, 4, 8, 8) and states.shape[:2] == (N, 1) and [r.id for r in records] == list(range(N))
    assert [r.path.name for r in records] == sorted(f"{id:012d}.jpg" for id in files["ids"]) and {r.captions for r in records} == {("",)}
