"""Captions that are projected once for all their rows, against plain diffusers."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from helpers import SMALL

from abu.diffusion.attention import SharedText, share_text
from abu.diffusion.noise import normals


def plain() -> UNet2DConditionModel:
    """A U-Net whose attention nobody touched."""
    torch.manual_seed(0)
    return UNet2DConditionModel(**SMALL).eval().requires_grad_(False)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_shared_text_equals_repeated_text(compiled: bool) -> None:
    untouched, shared = plain(), share_text(plain())
    x, t = normals((4, 8, 8), [("x", i) for i in range(6)]), torch.tensor([1, 500, 999] * 2)
    text = normals((6, 8), [("c", i) for i in range(2)])
    repeated, widths = text.repeat_interleave(3, 0), []
    if compiled:
        shared.compile(dynamic=False)
    else:
        layers = dict(shared.named_modules())
        keys = next(name for name in layers if name.endswith("attn2.to_k"))
        layers[keys].register_forward_hook(lambda layer, inputs, _: widths.append(len(inputs[0])))
    expected = untouched(x, t, encoder_hidden_states=repeated).sample
    prediction = shared(x, t, encoder_hidden_states=text).sample
    assert (prediction - expected).abs().max() < 1e-5
    assert widths == ([] if compiled else [2])  # the captions are projected once, not six times
    if not compiled:
        assert torch.equal(shared(x, t, encoder_hidden_states=repeated).sample, expected)
        with pytest.raises(ValueError, match="4 captions cannot share 6 rows"):
            shared(x, t, encoder_hidden_states=text.repeat(2, 1, 1))
    processors = share_text(shared).attn_processors
    assert all(isinstance(processor, SharedText) for processor in processors.values())
    once = processors["mid_block.attentions.0.transformer_blocks.0.attn2.processor"]
    assert not isinstance(once.inner, SharedText)


def test_attention_with_keys_of_its_own_is_refused() -> None:
    blocks = {
        "down_block_types": ("DownBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "UpBlock2D"),
    }
    with pytest.raises(TypeError, match="adds keys and values of its own"):
        share_text(UNet2DConditionModel(**SMALL | blocks))
