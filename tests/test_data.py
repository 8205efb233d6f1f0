"""Data, caches and training: what they refuse, and that they resume to the bit."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from abu import ROOT
from abu.data.captions import load_captions
from abu.data.files import write_array, write_atomically
from abu.data.manifest import check_manifest, fingerprint
from abu.data.pictures import read_image
from abu.data.prepared import Prepared
from abu.diffusion.components import load_components
from abu.diffusion.encode import prepare
from abu.diffusion.train import batch, hold_out, initial_unet, slots, train
from abu.diffusion.unet import load_unet

UNET = dict(
    sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    attention_head_dim=4,
)  # fmt: skip


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for id in (3, 1):
        Image.new("RGB", (32, 48), (0, 0, 255)).save(tmp_path / "images" / f"{id}.png")
    write(tmp_path, coco_content())
    return tmp_path


def coco_content() -> dict:
    images = [{"id": 3, "file_name": "3.png", "kind": "a"}, {"id": 1, "file_name": "1.png", "kind": "b"}]
    annotations = [{"id": i, "image_id": image, "caption": f"c{i}"} for i, image in enumerate((1, 3, 1))]
    return {"images": images, "annotations": annotations}


def write(folder: Path, content) -> None:
    (folder / "captions.json").write_text(content if isinstance(content, str) else json.dumps(content))


def load(folder: Path, **options):
    return load_captions(folder / "captions.json", folder / "images", **options)


def test_captions_keep_the_order_of_the_images(coco):
    records = load(coco)
    assert [(r.id, r.captions, r.fields) for r in records] == [(3, ("c1",), {"kind": "a"}), (1, ("c0", "c2"), {"kind": "b"})]
    assert [r.id for r in load(coco, keep={"kind": ["b"]})] == [1]
    pixels = read_image(records[0].path, 16)
    assert pixels.shape == (3, 16, 16) and pixels[:, 0, 0].tolist() == [-1, -1, 1]


@pytest.mark.parametrize(
    "change, error",
    [
        (lambda c: c["images"].append(c["images"][0]), "duplicate image ids: .3."),
        (lambda c: c["annotations"].pop(1), "no caption for images .3."),
        (lambda c: c.pop("annotations"), "not a COCO captions file: expected images"),
        (lambda c: c["images"][0].pop("id"), "not a COCO captions file"),
        (lambda c: c.__setitem__("images", 5), "not a COCO captions file"),
    ],
)
def test_captions_that_are_wrong(coco, change, error):
    content = coco_content()
    change(content)
    write(coco, content)
    with pytest.raises(ValueError, match=error):
        load(coco)


def test_files_that_are_wrong(coco):
    write(coco, "{")
    with pytest.raises(ValueError, match="not a COCO captions file"):
        load(coco)
    write(coco, coco_content())
    with pytest.raises(ValueError, match="has no image where"):
        load(coco, keep={"kind": ["z"]})
    (coco / "images" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="1.png is not a readable image"):
        read_image(load(coco)[1].path, 16)
    (coco / "images" / "3.png").unlink()
    with pytest.raises(FileNotFoundError, match="lacks 1 images.*3.png"):
        load(coco)


@pytest.fixture(scope="module")
def components():
    return load_components(ROOT / "data/components")


@pytest.fixture(scope="module")
def records():
    return load_captions(ROOT / "data/captions.json", ROOT / "data/images", {"concept": ["skull", "ghost", "alien"]})


@pytest.fixture(scope="module")
def data(tmp_path_factory, components, records):
    out = tmp_path_factory.mktemp("prepared")
    prepare(records, components, out, 64, "float32")
    return Prepared(out, components.states)


def test_embedded_data_have_three_styles_and_five_captions():
    everything = load_captions(ROOT / "data/captions.json", ROOT / "data/images")
    aside = load_captions(ROOT / "data/fluent-3d/captions.json", ROOT / "data/fluent-3d/images")
    assert len(everything) == 3 * len(aside) and {len(r.captions) for r in everything + aside} == {5}
    assert {r.fields["style"] for r in everything} == {"noto", "twemoji", "fluent"}
    assert not {r.id for r in everything} & {r.id for r in aside}


def test_autoencoder_and_text_states(components, data, records):
    pixels = torch.stack([torch.from_numpy(read_image(r.path, 64)) for r in records])
    assert (components.decode(data.latents[:, 0]) * 2 - 1 - pixels).abs().mean() < 0.12
    assert 0.7 < data.latents[:, 0].std() < 1.3
    assert data.texts[:, 0].square().mean().sqrt() == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(data.texts[[2] * 5, range(5)], components.texts(list(records[2].captions)), rtol=1e-5, atol=1e-5)


def test_token_states_on_the_fly_equal_the_stored_ones(tmp_path, components, records, data):
    prepare(records, components, tmp_path, 64, "on-the-fly")
    lazy = Prepared(tmp_path, components.states).texts
    assert lazy.shape == tuple(data.texts.shape)
    torch.testing.assert_close(lazy[torch.tensor([4, 1]), torch.tensor([0, 3])], data.texts[[4, 1], [0, 3]], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(lazy[2, 1], data.texts[2, 1], rtol=1e-4, atol=1e-4)


def test_prepare_leaves_nothing_half_written(tmp_path, components, records):
    (tmp_path / "out").mkdir()
    broken = [*records[:2], replace(records[2], path=tmp_path / "no.png")]
    with pytest.raises(ValueError, match="not a readable image"):
        prepare(broken, components, tmp_path / "out", 64, "float16")
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(ValueError, match="token_states is 'float8'"):
        prepare(records, components, tmp_path, 64, "float8")


def test_manifests_name_the_field_that_differs(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps({"ids": [1, 2], "seed": 0}))
    assert check_manifest(tmp_path / "m.json", {"seed": 0})["ids"] == [1, 2]
    with pytest.raises(ValueError, match="seed is 0; expected 1"):
        check_manifest(tmp_path / "m.json", {"ids": [1, 2], "seed": 1})
    with pytest.raises(ValueError, match="model is null"):
        check_manifest(tmp_path / "m.json", {"model": "x"})


def test_writes_are_whole_or_not_at_all(tmp_path):
    def fail(file):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a.npy", fail)
    assert not list(tmp_path.iterdir())
    write_array(tmp_path / "a.npy", np.arange(3))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2] and len(list(tmp_path.iterdir())) == 1
    assert fingerprint(tmp_path / "a.npy", {"b": 1, "a": 2}) == fingerprint(tmp_path / "a.npy", {"a": 2, "b": 1})


def test_hold_out_is_named(data):
    kept, out = hold_out(data.ids, 3, seed=0)
    assert sorted(kept + out) == sorted(data.ids) and len(out) == 3 and hold_out(data.ids, 3, 0) == (kept, out)
    with pytest.raises(ValueError, match="cannot hold out"):
        hold_out(data.ids, len(data.ids), 0)


def test_kept_images_meet_the_same_randomness_whoever_is_left_out(data, components):
    rows = slots(len(data.ids), 3, 8, seed=0)
    assert len(set(slots(9, 0, 9, 0))) == 9 and {epoch for _, epoch in rows} == {2, 3}
    kept = [row for row in rows if row[0] % 2]
    whole = batch(data, components.scheduler, rows, 0, 0.1, True)
    part = batch(data, components.scheduler, kept, 0, 0.1, True)
    places = [rows.index(row) for row in kept]
    assert all(torch.equal(w[places], p) for w, p in zip(whole, part))


def test_training_resumes_to_the_bit_and_refuses_nonsense(tmp_path, data, components):
    config = UNET | {"cross_attention_dim": data.texts.shape[-1]}
    recipe = dict(steps=6, batch_size=4, lr=1e-3, warmup=1, ema_decay=0.5, checkpoint_every=2, progress="")
    run = lambda keep=data.ids, **more: train(data, components.scheduler, config, keep, **recipe | more)
    straight, losses, history = run(observe=lambda unet: {"x": unet.conv_in.weight.sum().item()})
    calls = []

    def stop(unet):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return {"x": unet.conv_in.weight.sum().item()}

    file = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=file, observe=stop)
    resumed, again, story = run(checkpoint=file, observe=lambda unet: {"x": unet.conv_in.weight.sum().item()})
    assert losses == again and history == story and len(losses) == 6
    for a, b in zip(straight.parameters(), resumed.parameters()):
        assert torch.equal(a, b)
    without, *_ = run(keep=data.ids[1:])
    assert not torch.equal(without.conv_in.weight, straight.conv_in.weight)
    assert torch.equal(initial_unet(config, 0).conv_in.weight, initial_unet(config, 0).conv_in.weight)
    with pytest.raises(ValueError, match="no image to train on"):
        run(keep=[])
    with pytest.raises(KeyError, match="were not prepared"):
        run(keep=[-5])
    with pytest.raises(FloatingPointError, match="training loss of step"):
        run(lr=1e30)


def test_recipe_of_the_components_trains_and_loads(tmp_path, records):
    from abu.diffusion.recipe import train_components

    pixels = torch.stack([torch.from_numpy(read_image(r.path, 64)) for r in records])
    train_components(pixels, [list(r.captions) for r in records], tmp_path, vae_steps=1, clip_steps=1)
    parts = load_components(tmp_path)
    assert parts.texts(["skull"]).shape == (1, 24, 128)
    assert parts.encode(pixels[:1]).shape == (1, 4, 16, 16)


def test_two_processes_train_the_model_of_one(tmp_path, data, components):
    """accelerate with two CPU processes; odd batches and left-out images share unevenly. Tolerance: float32 rounding."""
    config = UNET | {"cross_attention_dim": data.texts.shape[-1]}
    recipe = dict(steps=4, batch_size=5, lr=1e-3, warmup=1, ema_decay=0.5, progress="")
    keep = data.ids[2:]
    prepare_folder, result = tmp_path / "prepared.json", tmp_path / "unet"
    prepare_folder.write_text(json.dumps([str(data.folder), config, keep, recipe, str(result)]))
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*launch, str(script), str(prepare_folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    one, losses, _ = train(data, components.scheduler, config, keep, **recipe)
    two = load_unet(result)
    for a, b in zip(one.parameters(), two.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)
    assert json.loads((tmp_path / "losses.json").read_text()) == pytest.approx(losses, rel=1e-4)


WORKER = """
import json, sys
from pathlib import Path
from accelerate import PartialState
from abu import ROOT
from abu.data.prepared import Prepared
from abu.diffusion.components import load_components
from abu.diffusion.unet import load_unet
from abu.diffusion.train import train

folder, config, keep, recipe, out = json.loads(Path(sys.argv[1]).read_text())
unet, losses, _ = train(Prepared(Path(folder)), load_components(ROOT / "data/components").scheduler, config, keep, **recipe)
state = PartialState()
assert state.num_processes == 2
if state.is_main_process:
    unet.save_pretrained(out)
    Path(out).with_name("losses.json").write_text(json.dumps(losses))
state.destroy_process_group()
"""
