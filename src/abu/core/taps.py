"""Per-example gradients of chosen weights from what goes in and out of their layers.

A layer's input and the gradient of its output, [B, ...], give every example's own weight gradient.
Gradients are asked for at the outputs alone: no gradient of a weight is summed over the batch only
to be thrown away, and nothing upstream of the first tapped layer is walked through.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import group_norm, layer_norm, unfold


def split(name: str) -> tuple[str, str]:
    """Layer and parameter (``weight`` or ``bias``) of a parameter's name."""
    layer, _, kind = name.rpartition(".")
    return layer, kind


def full(z: Tensor) -> Tensor:
    """At least float32: gradients of half precision are multiplied and squared in full."""
    return z.float() if z.element_size() < 4 else z


class Taps:
    """Context that records inputs and outputs of the layers of the named parameters in one forward
    pass.

    Linear, Conv2d (ungrouped), GroupNorm and LayerNorm, weights and biases; raises TypeError for
    other layers, RuntimeError for a layer that is called twice. Runs without ``torch.compile``,
    which would not see the hooks.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]):
        self.names = list(names)
        layers = dict.fromkeys(split(name)[0] for name in names)
        self.layers = {layer: model.get_submodule(layer) for layer in layers}
        for name, layer in self.layers.items():
            supported = isinstance(layer, nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm)
            if isinstance(layer, nn.Conv2d):
                supported = layer.groups == 1 and layer.padding_mode == "zeros"
            if not supported:
                kind = type(layer).__name__
                raise TypeError(f"per-example gradients of {kind} are not known ({name})")

    def __enter__(self):
        self.x, self.y, self.patches = {}, {}, {}
        hook = lambda name: lambda layer, inputs, output: self.record(name, inputs[0], output)
        layers = self.layers.items()
        self.handles = [layer.register_forward_hook(hook(name)) for name, layer in layers]
        self.eager = torch.compiler.set_stance("force_eager")
        self.eager.__enter__()
        return self

    def __exit__(self, *error):
        self.eager.__exit__(*error)
        for handle in self.handles:
            handle.remove()

    def record(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        if name in self.y:
            lost = "its per-example gradients would be those of the last call"
            raise RuntimeError(f"{name} was called twice: {lost}")
        self.x[name], self.y[name] = full(x.detach()), y if y.requires_grad else y.requires_grad_()
        return y

    def backward(self, outputs: Tensor, cotangents: Tensor | None = None, retain: bool = False):
        """Gradients of ``sum(outputs * cotangents)`` (None: a scalar) at every tapped layer;
        ``retain`` as in autograd."""
        self.retained = retain
        options = {"retain_graph": retain, "allow_unused": True}
        dy = torch.autograd.grad(outputs, list(self.y.values()), cotangents, **options)
        of = lambda y, d: torch.zeros_like(y) if d is None else full(d)
        self.dy = {name: of(y, d) for (name, y), d in zip(self.y.items(), dy)}

    def tokens(self, name: str) -> tuple[Tensor, Tensor]:
        """Inputs [B, S, I] and output gradients [B, S, O] of a Linear layer's weight, whose
        gradient is ``sum_s dy_s x_s^T``."""
        layer, kind = split(name)
        if kind != "weight" or not isinstance(self.layers[layer], nn.Linear):
            raise TypeError(f"{name} is not the weight of a Linear layer")
        x, dy = self.x[layer], self.dy[layer]
        return x.reshape(len(x), -1, x.shape[-1]), dy.reshape(len(dy), -1, dy.shape[-1])

    def gradient(self, name: str) -> Tensor:
        """Per-example gradients of one parameter, [B, *its shape]."""
        layer_name, kind = split(name)
        layer, x, dy = self.layers[layer_name], self.x[layer_name], self.dy[layer_name]
        if isinstance(layer, nn.Linear):
            if kind == "bias":
                return dy.reshape(len(dy), -1, dy.shape[-1]).sum(1)
            x, dy = self.tokens(name)
            return torch.bmm(dy.mT, x)
        if isinstance(layer, nn.Conv2d):
            if kind == "bias":
                return dy.sum((2, 3))
            patches = self.patches.get(layer_name)
            if patches is None:
                shape: tuple = (layer.kernel_size, layer.dilation, layer.padding, layer.stride)
                patches = unfold(x, *shape)  # [B, i * kh * kw, P]
                if self.retained:  # other backward passes follow
                    self.patches[layer_name] = patches
            return torch.bmm(dy.flatten(2), patches.mT).reshape(len(x), *layer.weight.shape)
        if isinstance(layer, nn.GroupNorm):
            g = dy * group_norm(x, layer.num_groups, eps=layer.eps) if kind == "weight" else dy
            return g.flatten(2).sum(2) if g.dim() > 2 else g
        assert isinstance(layer, nn.LayerNorm)  # as __init__ saw to
        g = dy * layer_norm(x, layer.normalized_shape, eps=layer.eps) if kind == "weight" else dy
        return g.sum(tuple(range(1, g.dim() - len(layer.normalized_shape))))
