"""Per-example gradients from what goes in and out of layers."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from abu.core.taps import Taps


class Everything(nn.Module):
    """Every kind of layer whose per-example gradients are known."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.group, self.layer = nn.GroupNorm(3, 6), nn.LayerNorm(6)
        self.tokens, self.rows = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        h = self.group(self.conv(x)).flatten(2).mT
        return self.rows(self.tokens(self.layer(h)).tanh().mean(1)).square().sum(1)


def test_taps_equal_one_example_at_a_time() -> None:
    torch.manual_seed(0)
    model, x = Everything().double(), torch.randn(4, 2, 6, 6, dtype=torch.float64)
    for norm in (model.group, model.layer):
        nn.init.normal_(norm.weight)
    params = dict(model.named_parameters())
    with Taps(model.requires_grad_(False), list(params)) as taps:
        taps.backward(model(x).sum())
    for b in range(len(x)):
        loss = lambda p, one=x[b : b + 1]: functional_call(model, p, (one,)).sum()
        for name, alone in torch.func.grad(loss)(params).items():
            torch.testing.assert_close(taps.gradient(name)[b], alone, rtol=1e-9, atol=1e-12)


def test_several_passes_share_what_a_convolution_saw_and_one_keeps_nothing() -> None:
    torch.manual_seed(0)
    model, x = Everything().double().requires_grad_(False), torch.randn(4, 2, 6, 6).double()
    found = []
    for passes in (1, 2):
        with Taps(model, ["conv.weight"]) as taps:
            output = model(x)
            for number in range(passes):
                taps.backward(output, torch.ones_like(output), retain=number < passes - 1)
                found.append(taps.gradient("conv.weight"))
        assert len(taps.patches) == passes - 1
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_layers_whose_gradients_are_not_known_are_refused() -> None:
    with pytest.raises(TypeError, match="Embedding are not known"):
        Taps(nn.Sequential(nn.Embedding(3, 2)), ["0.weight"])
    twice = nn.Sequential(layer := nn.Linear(2, 2), layer)
    with pytest.raises(RuntimeError, match="called twice"), Taps(twice, ["0.weight"]):
        twice(torch.ones(1, 2))
