"""Models as people have them: what is honoured of their files and configs, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from helpers import stable_diffusion
from safetensors.torch import load_file, save_file

from abu.diffusion.components import Components, load_components
from abu.diffusion.customize import CustomRecipe, Lessons, add_token, class_vector, customize
from abu.diffusion.noise import normals
from abu.diffusion.unet import load_published

TEXT, VAE, UNET = (
    "text_encoder/model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
)
LATENT, WIDTH = (4, 8, 8), 32


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sd"
    stable_diffusion(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    """A model in the format of Stable Diffusion v1.4, to be changed."""
    return shutil.copytree(whole, tmp_path / "sd")


def configure(path: Path, **changes) -> None:
    """Set values of a config; None for what is not to be there."""
    config = json.loads(path.read_text()) | changes
    kept = {key: value for key, value in config.items() if not (key in changes and value is None)}
    path.write_text(json.dumps(kept))


def rewrite(path: Path, change: Callable[[dict], dict]) -> None:
    save_file({k: v.contiguous() for k, v in change(load_file(path)).items()}, path)


def halved(folder: Path, rename: bool) -> None:
    """The weights in half precision, in files of that variant alone or in the plain ones."""
    for name in (TEXT, VAE, UNET):
        rewrite(folder / name, lambda state: {key: value.half() for key, value in state.items()})
        if rename:
            path = folder / name
            path.rename(path.with_suffix(f".fp16{path.suffix}"))
    configure(folder / "text_encoder/config.json", dtype="float16")


def load(folder: Path) -> tuple[Components, UNet2DConditionModel]:
    return load_components(folder), load_published(folder, LATENT, WIDTH)


@pytest.mark.parametrize("rename", [True, False])
def test_half_precision_is_loaded_and_computed_in_float32(folder, rename: bool) -> None:
    parts, unet = load(folder)
    expected = [
        model.half().float().state_dict() for model in (parts.text_encoder, parts.vae, unet)
    ]
    halved(folder, rename)
    parts, unet = load(folder)
    for model, state in zip((parts.text_encoder, parts.vae, unet), expected):
        assert {p.dtype for p in model.parameters()} == {torch.float32} and not model.training
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert parts.texts(["a cat"]).dtype == parts.encode(torch.zeros(1, 3, 32, 32)).dtype


def test_a_text_encoder_in_half_precision_learns_a_token(folder) -> None:
    halved(folder, rename=False)
    parts, unet = load(folder)
    taught = add_token(parts, "<new1>", class_vector(parts, "cat"))
    lessons = Lessons(normals(LATENT, [(0,), (1,)]), ["<new1> cat"] * 2, [0, 1], "customize")
    losses = customize(unet, taught, "<new1>", [lessons], CustomRecipe(3, 2, 1e-3, 1e-2))
    vectors = taught.text_encoder.get_input_embeddings().weight
    number = taught.tokenizer.convert_tokens_to_ids("<new1>")
    assert len(losses) == 3 and vectors.dtype == torch.float32
    assert not torch.equal(vectors[number], class_vector(parts, "cat"))


def test_plain_files_are_taken_where_both_are(folder) -> None:
    state = load_file(folder / UNET)
    zeros = {key: torch.zeros_like(value).half() for key, value in state.items()}
    save_file(zeros, (folder / UNET).with_suffix(".fp16.safetensors"))
    unet = load_published(folder, LATENT, WIDTH)
    assert all(torch.equal(value, state[name]) for name, value in unet.state_dict().items())


def test_captions_are_as_long_as_tokenizer_and_text_encoder_allow(folder) -> None:
    assert load_components(folder).length == 24
    for length, expected in ((None, 24), (77, 24), (9, 9)):
        configure(folder / "tokenizer/tokenizer_config.json", model_max_length=length)
        parts = load_components(folder)
        assert parts.tokenizer.model_max_length == (length or pytest.approx(1e30))
        assert parts.length == expected and parts.texts(["cat " * 99]).shape == (1, expected, WIDTH)


def test_old_names_of_attention_are_read(folder) -> None:
    """As the autoencoder of Stable Diffusion v1.4 has them."""
    expected = load_components(folder).vae.state_dict()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(name: str) -> str:
        part = next((new for new in old if f".{new}." in name), None)
        return name.replace(part, old[part]) if part else name

    rewrite(folder / VAE, lambda state: {rename(name): value for name, value in state.items()})
    assert any("proj_attn" in name for name in load_file(folder / VAE))
    found = load_components(folder).vae.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


@pytest.mark.parametrize(
    "path, load, name",
    [
        (TEXT, load_components, "embeddings.token_embedding.weight"),
        (VAE, load_components, "decoder.conv_in.bias"),
        (UNET, lambda folder: load_published(folder, LATENT, WIDTH), "conv_in.bias"),
    ],
)
def test_weights_that_are_missing_or_unknown_are_never_drawn(folder, path, load, name) -> None:
    kept, model = load_file(folder / path), path.partition("/")[0]
    rewrite(folder / path, lambda state: {k: v for k, v in state.items() if k != name})
    with pytest.raises(ValueError, match=rf"sd/{model}: 1 weights are missing of .*{name}"):
        load(folder)
    save_file(kept | {"lora.up": torch.zeros(1)}, folder / path)
    with pytest.raises(ValueError, match=rf"sd/{model}: 1 weights do not belong to .*lora.up"):
        load(folder)
    (folder / path).unlink()
    with pytest.raises(OSError, match="o file named"):
        load(folder)


SCALES = {
    "factor": {"scaling_factor": 0.5},
    "shift": {"scaling_factor": 0.5, "shift_factor": 0.25},
    "by channel": {
        "scaling_factor": 0.5,
        "latents_mean": [1.0, 2.0, 3.0, 4.0],
        "latents_std": [2.0, 4.0, 1.0, 0.5],
    },
}


@pytest.mark.parametrize("name", SCALES)
def test_latents_are_scaled_as_the_autoencoder_says(folder, name: str) -> None:
    configure(folder / "vae/config.json", **SCALES[name])
    parts, pixels = load_components(folder), normals((3, 32, 32), [("x", 0)]).clamp(-1, 1)
    with torch.no_grad():
        own = parts.vae.encode(pixels).latent_dist.mode()
        back = parts.vae.decode(own).sample
    channel = lambda values: torch.tensor(values)[:, None, None]
    expected = {
        "factor": own * 0.5,
        "shift": (own - 0.25) * 0.5,
        "by channel": (own - channel([1.0, 2, 3, 4])) * 0.5 / channel([2, 4, 1, 0.5]),
    }[name]
    torch.testing.assert_close(parts.encode(pixels), expected)
    decoded = parts.decode(parts.encode(pixels))
    torch.testing.assert_close(decoded, (back / 2 + 0.5).clamp(0, 1), rtol=1e-4, atol=1e-5)


CONFIGS = {  # part: what its config says, and the refusal
    "text_encoder": [
        ({"model_type": "t5"}, "has model_type: 't5'; expected 'clip_text_model'"),
        ({"architectures": ["CLIPTextModelWithProjection"]}, "has architectures"),
        ({"use_attention_mask": True}, "has use_attention_mask: True; expected None or False"),
        ({"quantization_config": {"load_in_8bit": True}}, "has quantization_config"),
    ],
    "tokenizer": [
        ({"tokenizer_class": "T5Tokenizer"}, "tokenizer has tokenizer_class: 'T5Tokenizer'"),
        ({"do_lower_case": False}, "tokenizer has do_lower_case: False; expected None or True"),
    ],
    "vae": [
        ({"_class_name": "AutoencoderTiny"}, "is of class AutoencoderTiny; expected AutoencoderKL"),
        ({"in_channels": 1}, "vae has in_channels: 1; expected 3"),
        ({"quantize": 8}, "vae has quantize: 8, which AutoencoderKL does not know"),
        ({"shift_factor": 0.1, "latents_mean": [0.0] * 4}, "a shift_factor and a latents_mean"),
    ],
    "unet": [
        ({"_class_name": "UNet3DConditionModel"}, "is of class UNet3DConditionModel"),
        ({"in_channels": 9, "out_channels": 9}, r"takes .* \(9, 32\); prepared were \(4, 32\)"),
        ({"cross_attention_dim": 768}, r"takes .* \(4, 768\); prepared were \(4, 32\)"),
        ({"out_channels": 8}, "unet has out_channels: 8; expected 4"),
        ({"class_embed_type": "timestep"}, "unet has class_embed_type: 'timestep'; expected None"),
        ({"num_class_embeds": 10}, "unet has num_class_embeds: 10; expected None"),
        ({"addition_embed_type": "text_time"}, "unet has addition_embed_type: 'text_time'"),
        ({"encoder_hid_dim": 64}, "unet has encoder_hid_dim: 64; expected None"),
        ({"time_cond_proj_dim": 256}, "unet has time_cond_proj_dim: 256; expected None"),
        ({"dual_cross_attention": True}, "unet has dual_cross_attention: True; expected"),
        ({"attention_type": "gated"}, "unet has attention_type: 'gated'"),
        ({"rope_theta": 100.0}, "unet has rope_theta: 100.0, which UNet2DConditionModel does not"),
    ],
}
ROWS = [(part, *row) for part, rows in CONFIGS.items() for row in rows]


@pytest.mark.parametrize("part, changes, message", ROWS, ids=lambda x: str(x)[:40])
def test_configs_that_would_be_ignored_are_refused(folder, part, changes, message) -> None:
    file = "tokenizer_config.json" if part == "tokenizer" else "config.json"
    configure(folder / part / file, **changes)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_a_tokenizer_of_more_words_than_the_text_encoder_knows_is_refused(folder) -> None:
    parts = load_components(folder)
    parts.tokenizer.add_tokens(["<new1>", "<new2>"])
    parts.tokenizer.save_pretrained(folder / "tokenizer")
    with pytest.raises(ValueError, match="has 2568 tokens; its text encoder knows 2566"):
        load_components(folder)


def test_averaged_weights_of_a_training_script_are_a_folder_of_their_own(folder) -> None:
    """``unet_ema``, with what diffusers' EMAModel adds to a config."""
    shutil.move(folder / "unet", folder.parent / "unet_ema")
    ema = {"decay": 0.9999, "optimization_step": 500, "use_ema_warmup": False, "power": 0.66}
    configure(folder.parent / "unet_ema/config.json", **ema)
    unet, state = (
        load_published(folder.parent / "unet_ema", LATENT, WIDTH),
        load_file(folder.parent / "unet_ema/diffusion_pytorch_model.safetensors"),
    )
    assert all(torch.equal(value, state[name]) for name, value in unet.state_dict().items())
