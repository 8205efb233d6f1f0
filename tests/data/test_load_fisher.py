"""Released Fisher information, by name or in order."""

import pytest
import torch
from helpers import save_tensors, tiny_unet

from abu.data.released import load_fisher
from abu.diffusion.noise import normal
from abu.diffusion.unet import select_weights


def test_fisher_information_by_name_or_in_order(tmp_path) -> None:
    unet, named, listed = tiny_unet(), tmp_path / "fisher.pt", tmp_path / "list.pt"
    weights = select_weights(unet, "cross-attn-kv")
    shapes = {name: tuple(unet.get_parameter(name).shape) for name in weights}
    whole = {
        name: normal(tuple(p.shape), "fisher", name).square() for name, p in unet.named_parameters()
    }
    load = lambda path, content: load_fisher(save_tensors(path, content), shapes)
    by_name = load(named, whole)
    assert list(by_name) == list(shapes)
    assert all(torch.equal(by_name[name], whole[name].double()) for name in shapes)
    in_order = load(listed, [whole[name] for name in shapes])
    assert all(torch.equal(in_order[name], by_name[name]) for name in shapes)
    first = weights[0]
    with pytest.raises(ValueError, match=f"{first} has negative values"):
        load(named, whole | {first: -whole[first]})
    with pytest.raises(ValueError, match=f"lacks 1 of {len(shapes)} weights"):
        load(named, {name: value for name, value in whole.items() if name != first})
    with pytest.raises(ValueError, match=f"holds 1; expected {len(shapes)} tensors"):
        load(named, [whole[first]])
    with pytest.raises(FloatingPointError, match="not finite"):
        load(named, whole | {first: torch.full(shapes[first], torch.inf)})
