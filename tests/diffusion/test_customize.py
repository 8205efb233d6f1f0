"""Customized models: what is trained, and what is refused."""

import copy

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from helpers import tiny_unet

from abu.diffusion.components import Components
from abu.diffusion.customize import CustomRecipe, Lessons, add_token, class_vector, customize
from abu.diffusion.losses import denoising_loss
from abu.diffusion.noise import normals

TOKEN = "<new1>"
PROMPTS = ["<new1> cat", "noto <new1> cat", "<new1> cat"]
EXEMPLARS = Lessons(
    normals((16, 8, 8), [("exemplar", i) for i in range(3)]), PROMPTS, [7, 8, 9], "customize"
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
    assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 0.005
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
    x, prompts = normals((16, 8, 8), [("prior", i) for i in range(4)]), ["cat"] * 4
    eps = normals((16, 8, 8), [("eps", i) for i in range(4)])
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


def test_tokens_that_are_wrong(components) -> None:
    message = "class word 'hedgehoggery' is unknown to the tokenizer, which reads"
    with pytest.raises(ValueError, match=message):
        class_vector(components, "hedgehoggery")
    with pytest.raises(ValueError, match=r"has the shape \(8,\); expected \(128,\)"):
        add_token(components, TOKEN, torch.zeros(8))
    taught = add_token(components, TOKEN, torch.zeros(128))
    with pytest.raises(ValueError, match="has a token '<new1>' already"):
        add_token(taught, TOKEN, torch.zeros(128))
