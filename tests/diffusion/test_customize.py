"""Customized models: what is trained, what is saved and loaded, what is refused."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from helpers import tiny_unet
from published import published_by_diffusers
from safetensors.torch import load_file

from abu import ROOT
from abu.diffusion.components import Components, load_components
from abu.diffusion.customize import (
    WEIGHTS,
    CustomRecipe,
    Lessons,
    add_token,
    class_vector,
    customize,
    load_customized,
    merge,
    save_customized,
)
from abu.diffusion.losses import denoising_loss
from abu.diffusion.noise import normals

TOKEN = "<new1>"
PROMPTS = ["<new1> cat", "noto <new1> cat", "<new1> cat"]
EXEMPLARS = Lessons(
    normals((4, 16, 16), [("exemplar", i) for i in range(3)]), PROMPTS, [7, 8, 9], "customize"
)


def untrained(components: Components) -> tuple[UNet2DConditionModel, Components]:
    """A U-Net, and components that know the token as a cat."""
    return tiny_unet(), add_token(components, TOKEN, class_vector(components, "cat"))


def recipe(steps: int, batch_size: int) -> CustomRecipe:
    return CustomRecipe(steps, batch_size, lr=5e-3, token_lr=1e-2)


def embeddings(components: Components) -> torch.Tensor:
    return components.text_encoder.get_input_embeddings().weight


def test_only_keys_values_and_the_new_token_learn(components) -> None:
    unet, taught = untrained(components)
    before, words_before = copy.deepcopy(unet.state_dict()), embeddings(taught).clone()
    number = taught.tokenizer.convert_tokens_to_ids(TOKEN)
    assert torch.equal(words_before[number], class_vector(components, "cat"))
    losses = customize(unet, taught, TOKEN, [EXEMPLARS], recipe(40, 6))
    assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 0.02
    after = unet.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in before if "attn2.to_k" in name or "attn2.to_v" in name}
    moved = (embeddings(taught) != words_before).any(1)
    assert moved.nonzero().flatten().tolist() == [number]
    # other captions keep their states, and the components that were given are untouched
    assert torch.equal(components.texts(["crying cat"]), taught.texts(["crying cat"]))
    assert not components.tokenizer.get_added_vocab().get(TOKEN)
    assert customize(*untrained(components), TOKEN, [EXEMPLARS], recipe(40, 6)) == losses


def test_prior_preservation_keeps_the_loss_of_the_prior_low(components) -> None:
    x, prompts = normals((4, 16, 16), [("prior", i) for i in range(4)]), ["cat"] * 4
    eps = normals((4, 16, 16), [("eps", i) for i in range(4)])
    t, text = torch.tensor([100, 300, 500, 900]), components.texts(prompts)

    def loss_after(*priors: Lessons) -> float:
        unet, taught = untrained(components)
        customize(unet, taught, TOKEN, [EXEMPLARS, *priors], recipe(40, 4))
        with torch.no_grad():
            return denoising_loss(unet, taught.scheduler, x, eps, t, text).mean().item()

    prior = lambda weight: Lessons(x, prompts, list(range(4)), "prior", weight)
    without = loss_after()
    assert loss_after(prior(0.0)) == without
    assert loss_after(prior(1.0)) < without


@pytest.mark.parametrize("safe", [False, True])
def test_published_deltas_draw_as_they_do_in_diffusers(tmp_path, components, safe: bool) -> None:
    base, vector = tiny_unet(), class_vector(components, "fox")
    theirs = published_by_diffusers(base, tmp_path, vector, safe)
    weights, token, loaded = load_customized(tmp_path)
    merge(base, weights)
    assert token == TOKEN and torch.equal(loaded, vector)
    x, t = normals((4, 16, 16), [("x", i) for i in range(2)]), torch.tensor([1, 900])
    text = components.texts(["a cat", "a dog"])
    with torch.no_grad():
        ours = base(x, t, text).sample
        torch.testing.assert_close(ours, theirs(x, t, text).sample)
        assert (ours - tiny_unet()(x, t, text).sample).abs().max() > 1e-3


def test_what_is_saved_loads_here_and_in_diffusers(tmp_path, components) -> None:
    unet, taught = untrained(components)
    customize(unet, taught, TOKEN, [EXEMPLARS], recipe(5, 3))
    save_customized(tmp_path, unet, taught, TOKEN)
    files = {f"{WEIGHTS}.safetensors", f"{TOKEN}.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == files
    again = tiny_unet()
    weights, token, vector = load_customized(tmp_path)
    merge(again, weights)
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in unet.state_dict().items())
    text = add_token(components, token, vector).texts(["<new1> cat"])
    assert torch.equal(text, taught.texts(["<new1> cat"]))
    fresh = load_components(ROOT / "data/components")
    parts = fresh.vae, fresh.text_encoder, fresh.tokenizer, tiny_unet(), fresh.scheduler
    pipe = StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)
    saved = load_file(tmp_path / f"{WEIGHTS}.safetensors")
    published_by_diffusers(unet, tmp_path / "theirs", vector, safe=True)
    assert saved.keys() == load_file(tmp_path / "theirs" / f"{WEIGHTS}.safetensors").keys()
    # load_attn_procs itself of diffusers 0.42 cannot read a safetensors file of its own:
    # self-attention leaves no entry in it
    custom = pipe.unet._process_custom_diffusion(saved)
    pipe.unet.set_attn_processor({**pipe.unet.attn_processors, **custom})
    pipe.load_textual_inversion(tmp_path, weight_name=f"{TOKEN}.safetensors")
    x, t = normals((4, 16, 16), [("x", 0)]), torch.tensor([300])
    with torch.no_grad():
        states = pipe.text_encoder(fresh.tokens(["<new1> cat"])).last_hidden_state
        torch.testing.assert_close(states, text)
        torch.testing.assert_close(pipe.unet(x, t, states).sample, unet(x, t, text).sample)


def test_customized_models_that_are_wrong(tmp_path, components) -> None:
    message = "class word 'hedgehoggery' is unknown to the tokenizer, which reads"
    with pytest.raises(ValueError, match=message):
        class_vector(components, "hedgehoggery")
    with pytest.raises(ValueError, match=r"has the shape \(8,\); expected \(128,\)"):
        add_token(components, TOKEN, torch.zeros(8))
    taught = add_token(components, TOKEN, torch.zeros(128))
    with pytest.raises(ValueError, match="has a token '<new1>' already"):
        add_token(taught, TOKEN, torch.zeros(128))
    message = "is no customized model: expected pytorch_custom_diffusion_weights"
    with pytest.raises(FileNotFoundError, match=message):
        load_customized(tmp_path)
    wider = tiny_unet(block_out_channels=(8, 16))
    published_by_diffusers(wider, tmp_path, torch.zeros(128), False)
    message = r"attn2.to_k.weight has the shape \(16, 128\); the model has \(8, 128\)"
    with pytest.raises(ValueError, match=message):
        merge(tiny_unet(), load_customized(tmp_path)[0])
    with pytest.raises(FloatingPointError, match="conv_in.bias: 8 of 8 values are not finite"):
        merge(tiny_unet(), {"conv_in.bias": torch.full((8,), torch.nan)})
    torch.save({"unet.weight": torch.zeros(3)}, tmp_path / f"{WEIGHTS}.bin")
    message = "has an entry unet.weight; expected those of Custom Diffusion"
    with pytest.raises(ValueError, match=message):
        load_customized(tmp_path)
    torch.save({"code": Path("/")}, tmp_path / f"{WEIGHTS}.bin")
    with pytest.raises(ValueError, match="holds no tensors that can be read safely"):
        load_customized(tmp_path)
