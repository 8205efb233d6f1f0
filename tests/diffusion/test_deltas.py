"""Files of customized models: as diffusers writes them, as Custom Diffusion's own code does, as we
do."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from helpers import save_tensors, tiny_unet
from published import published_by_diffusers
from safetensors.torch import load_file

from abu import ROOT
from abu.diffusion.components import load_components
from abu.diffusion.customize import add_token, add_tokens, class_vector
from abu.diffusion.deltas import WEIGHTS, load_customized, merge, own_name, save_customized
from abu.diffusion.noise import normals
from abu.diffusion.unet import select_weights

TOKEN = "<new1>"
ANCESTOR = {  # the small U-Net's blocks with attention, one layer each, in the original's names
    "down_blocks.1.attentions.0": "input_blocks.3.1",
    "mid_block.attentions.0": "middle_block.1",
    "up_blocks.0.attentions.0": "output_blocks.0.1",
    "up_blocks.0.attentions.1": "output_blocks.1.1",
}


def taught(count: int = 1, part: str = "attn2.to_"):
    """A U-Net with other weights of cross-attention, those weights, and vectors of new tokens."""
    unet = tiny_unet()
    names = [name for name, _ in unet.named_parameters() if part in name]
    for name in names:
        weight = unet.get_parameter(name)
        weight.data += 0.1 * normals(tuple(weight.shape), [(name,)])[0]
    weights = {name: unet.get_parameter(name).detach().clone() for name in names}
    return (
        unet,
        weights,
        {f"<new{i}>": normals((128,), [("token", i)])[0] for i in range(1, count + 1)},
    )


def same(loaded: tuple, weights: dict, vectors: dict) -> bool:
    """What was loaded, and that a model takes it."""
    unet = tiny_unet()
    merge(unet, loaded[0])
    equal = lambda a, b: a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    own = {name: unet.get_parameter(name).data for name in weights}
    return equal(own, weights) and equal(*loaded[:1], weights) and equal(loaded[1], vectors)


@pytest.mark.parametrize("safe", [False, True])
def test_published_deltas_draw_as_they_do_in_diffusers(tmp_path, components, safe: bool) -> None:
    base, vector = tiny_unet(), class_vector(components, "fox")
    theirs = published_by_diffusers(base, tmp_path, vector, safe)
    weights, vectors = load_customized(tmp_path)
    merge(base, weights)
    assert list(vectors) == [TOKEN] and torch.equal(vectors[TOKEN], vector)
    x, t = normals((16, 8, 8), [("x", i) for i in range(2)]), torch.tensor([1, 900])
    text = components.texts(["a cat", "a dog"])
    with torch.no_grad():
        ours = base(x, t, text).sample
        torch.testing.assert_close(ours, theirs(x, t, text).sample)
        assert (ours - tiny_unet()(x, t, text).sample).abs().max() > 1e-3


def test_weights_under_the_unets_own_names_as_the_benchmark_has_them(tmp_path) -> None:
    unet, weights, vectors = taught(part="attn2.to_k")
    state = {
        name: unet.get_parameter(name) for name in weights
    }  # parameters, as a script keeps them
    torch.save(state, tmp_path / f"{WEIGHTS}.pt")
    torch.save({TOKEN: vectors[TOKEN][None].requires_grad_()}, tmp_path / f"{TOKEN}.bin")
    assert same(load_customized(tmp_path), weights, vectors)


@pytest.mark.parametrize("part", ["attn2.to_k", "attn2.to_"])  # crossattn_kv and crossattn there
@pytest.mark.parametrize("whole", [True, False])  # the file, or its folder
def test_deltas_of_the_original_code_with_two_tokens(tmp_path, components, part, whole) -> None:
    unet, weights, vectors = taught(2, part)
    halves = {name: unet.get_parameter(name).half() for name in weights}
    content = {"unet": halves, "modifier_token": dict(vectors)}
    file = save_tensors(tmp_path / "delta_two.bin", content)
    rounded = {name: value.float() for name, value in halves.items()}
    assert same(load_customized(file if whole else tmp_path), rounded, vectors)
    both = add_tokens(components, vectors)
    ids = both.tokens(["<new1> and <new2>"])[0].tolist()
    assert both.tokenizer.convert_tokens_to_ids(["<new1>", "<new2>"]) == [ids[1], ids[3]]
    embeddings = both.text_encoder.get_input_embeddings().weight
    assert torch.equal(embeddings[[ids[1], ids[3]]], torch.stack([*vectors.values()]))
    one = add_token(components, "<new1>", vectors["<new1>"])
    assert torch.equal(one.texts(["<new1> and cat"]), both.texts(["<new1> and cat"]))
    assert torch.equal(components.texts(["crying cat"]), both.texts(["crying cat"]))
    folder = tmp_path / "again"
    other = tiny_unet()
    merge(other, rounded)
    save_customized(folder, other, both, vectors, rounded)
    again, kept = load_customized(folder)
    assert {f.name for f in folder.iterdir()} == {
        f"{WEIGHTS}.safetensors", "<new1>.safetensors", "<new2>.safetensors"
    }  # fmt: skip
    assert set(again) == {*rounded, *select_weights(other, "cross-attn-kv")}
    assert same(({n: again[n] for n in rounded}, kept), rounded, vectors)


def test_deltas_in_the_names_of_the_original_unet(tmp_path) -> None:
    _, weights, vectors = taught(2, "attn2.to_v")
    names = {}
    for name in weights:
        ours = next(block for block in ANCESTOR if name.startswith(block))
        names[name] = f"model.diffusion_model.{name.replace(ours, ANCESTOR[ours])}"
    state = {names[name]: value for name, value in weights.items()}
    state["embed"] = torch.stack([*vectors.values()])
    file = save_tensors(tmp_path / "delta_epoch=000004.ckpt", {"state_dict": state})
    assert same(load_customized(file, layers=1), weights, vectors)
    with pytest.raises(ValueError, match="has the shape .*; the model has no such weight"):
        merge(tiny_unet(), load_customized(file, layers=2)[0])


@pytest.mark.parametrize(
    "block, ours",
    [
        ("input_blocks.1.1", "down_blocks.0.attentions.0"),
        ("input_blocks.2.1", "down_blocks.0.attentions.1"),
        ("input_blocks.8.1", "down_blocks.2.attentions.1"),
        ("middle_block.1", "mid_block.attentions.0"),
        ("output_blocks.3.1", "up_blocks.1.attentions.0"),
        ("output_blocks.11.1", "up_blocks.3.attentions.2"),
    ],
)
def test_blocks_of_stable_diffusion_by_their_original_names(block: str, ours: str) -> None:
    rest = ".transformer_blocks.0.attn2.to_k.weight"
    assert own_name(Path("x"), f"model.diffusion_model.{block}{rest}", 2) == ours + rest


def test_what_is_saved_loads_here_and_in_diffusers(tmp_path, components) -> None:
    unet, _, vectors = taught()
    told = add_tokens(components, vectors)
    save_customized(tmp_path, unet, told, vectors)
    files = {f"{WEIGHTS}.safetensors", f"{TOKEN}.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == files
    kept = {name: unet.get_parameter(name).data for name in select_weights(unet, "cross-attn-kv")}
    assert same(load_customized(tmp_path), kept, vectors)
    unet = tiny_unet()
    merge(unet, kept)
    fresh = load_components(ROOT / "data/components")
    parts = fresh.vae, fresh.text_encoder, fresh.tokenizer, tiny_unet(), fresh.scheduler
    pipe = StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)
    saved = load_file(tmp_path / f"{WEIGHTS}.safetensors")
    published_by_diffusers(unet, tmp_path / "theirs", vectors[TOKEN], safe=True)
    assert saved.keys() == load_file(tmp_path / "theirs" / f"{WEIGHTS}.safetensors").keys()
    # load_attn_procs itself of diffusers 0.42 cannot read a safetensors file of its own:
    # self-attention leaves no entry in it
    custom = pipe.unet._process_custom_diffusion(saved)
    pipe.unet.set_attn_processor({**pipe.unet.attn_processors, **custom})
    pipe.load_textual_inversion(tmp_path, weight_name=f"{TOKEN}.safetensors")
    x, t = normals((16, 8, 8), [("x", 0)]), torch.tensor([300])
    text = told.texts(["<new1> cat"])
    with torch.no_grad():
        states = pipe.text_encoder(fresh.tokens(["<new1> cat"])).last_hidden_state
        torch.testing.assert_close(states, text)
        torch.testing.assert_close(pipe.unet(x, t, states).sample, unet(x, t, text).sample)


K = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
VECTOR = torch.zeros(128)
SMALL = {K: torch.zeros(8, 128)}
WHOLE = {"unet": SMALL, "modifier_token": {TOKEN: VECTOR}}
REFUSED = {
    "another form": (
        {f"{WEIGHTS}.bin": {"unet.weight": VECTOR}},
        r"weights.bin has an entry unet.weight; expected .* attn2.to_k.weight",
    ),
    "self-attention": (
        {f"{WEIGHTS}.pt": {K.replace("attn2", "attn1"): VECTOR}},
        "has an entry mid_block.*attn1.to_k.weight; expected",
    ),
    "code": (
        {f"{WEIGHTS}.pt": {"code": Path("/")}},
        "weights.pt holds no tensors that can be read safely",
    ),
    "a list": ({f"{WEIGHTS}.bin": [VECTOR]}, "weights.bin is a list of tensors; expected"),
    "compressed": (
        {"compressed_delta.bin": {"unet": {K: {"u": VECTOR, "v": VECTOR}}}},
        "compressed_delta.bin: mid_block.* is a dict; expected a tensor",
    ),
    "two text encoders": (
        {"delta.bin": {"unet": SMALL, "modifier_token": {TOKEN: [VECTOR, VECTOR]}}},
        "delta.bin: <new1> is a list; expected a tensor",
    ),
    "a trained text encoder": (
        {"delta.bin": {"unet": SMALL, "modifier_token": {}, "text_encoder": {}}},
        r"delta.bin has \['text_encoder'\] too; expected unet and modifier_token",
    ),
    "tokens in a row": (
        {"delta_model.ckpt": {"state_dict": SMALL | {"embed": torch.zeros(256)}}},
        r"delta_model.ckpt: embed has the shape \(256,\); expected \[tokens, width\]",
    ),
    "several deltas": (
        {"delta-1.bin": {"unet": SMALL}, "delta-2.bin": {"unet": SMALL}},
        r"has several deltas: \['delta-1.bin', 'delta-2.bin'\]; expected one",
    ),
    "a token twice": (
        {"delta.bin": WHOLE, "<new1>.bin": {TOKEN: VECTOR}},
        r"<new1>.bin: found the tokens \['<new1>'\] beside \['<new1>'\]; expected <new1> once",
    ),
    "a token of another name": (
        {"delta.bin": {"unet": SMALL}, "<new1>.bin": {"<new2>": VECTOR}},
        r"found the tokens \['<new2>'\] beside \[\]; expected <new1> once",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", REFUSED)
def test_files_that_are_refused(tmp_path, row: str) -> None:
    files, message = REFUSED[row]
    for name, content in files.items():
        torch.save(content, tmp_path / name)
    with pytest.raises(ValueError, match=message):
        load_customized(tmp_path)


def test_parts_that_are_missing_or_of_another_model(tmp_path, components) -> None:
    message = "is no customized model: expected a file pytorch_custom_diffusion_weights and <new1>"
    with pytest.raises(FileNotFoundError, match=message):
        load_customized(tmp_path)
    torch.save(SMALL, tmp_path / f"{WEIGHTS}.pt")
    with pytest.raises(FileNotFoundError, match=r"has 1 weights and the tokens \[\]; expected"):
        load_customized(tmp_path)
    wider = tiny_unet(block_out_channels=(8, 16))
    published_by_diffusers(wider, tmp_path, VECTOR, False)
    (tmp_path / f"{WEIGHTS}.pt").unlink()
    message = r"attn2.to_k.weight has the shape \(16, 128\); the model has \(8, 128\)"
    with pytest.raises(ValueError, match=message):
        merge(tiny_unet(), load_customized(tmp_path)[0])
    with pytest.raises(FloatingPointError, match="conv_in.bias: 8 of 8 values are not finite"):
        merge(tiny_unet(), {"conv_in.bias": torch.full((8,), torch.nan)})
    with pytest.raises(ValueError, match=r"embedding of '<new2>' has the shape \(8,\)"):
        add_tokens(components, {TOKEN: VECTOR, "<new2>": torch.zeros(8)})
