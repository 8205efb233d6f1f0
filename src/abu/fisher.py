"""Diagonal Fisher information of Linear layers from exact per-example gradients, and the query's gradient.

A Linear layer's gradient for example b is ``sum_tokens dy[b] x[b]^T``: hooks see both, so that one backward pass
of the summed losses gives every example's own gradient, squared and added before the next batch.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from abu.losses import check_finite, check_timesteps, denoising_loss
from abu.noise import normals, stream
from abu.progress import track

Tensors = dict[str, Tensor]


class PerExample:
    """Context that records, at each named Linear layer, inputs ``x`` [B, S, I] and output gradients ``dy`` [B, S, O]."""

    def __init__(self, model: nn.Module, weights: Sequence[str]):
        self.layers = {name: model.get_submodule(name.removesuffix(".weight")) for name in weights}
        if other := [name for name, layer in self.layers.items() if not isinstance(layer, nn.Linear)]:
            raise TypeError(f"per-example gradients need the weights of Linear layers; found {other[:3]}")

    def __enter__(self):
        self.x, self.dy = {}, {}
        hook = lambda name: lambda layer, inputs, output: self.record(name, inputs[0], output)
        self.handles = [layer.register_forward_hook(hook(name)) for name, layer in self.layers.items()]
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()

    def record(self, name: str, x: Tensor, y: Tensor) -> None:
        self.x[name] = x.detach()
        y.register_hook(lambda dy: self.dy.__setitem__(name, dy.detach()))

    def gradient(self, name: str) -> Tensor:
        """Per-example gradients of one weight, [B, O, I], for the sum of the examples' losses."""
        return torch.einsum("b...o,b...i->boi", self.dy[name], self.x[name])


def fisher_diagonal(
    unet,
    scheduler,
    weights: Sequence[str],
    example: Callable[[int, int, int], tuple[Tensor, Tensor]],
    ids: Sequence[int],
    draws: int,
    seed: int = 0,
    batch_size: int = 64,
    progress: str = "",
) -> Tensors:
    """Mean of squared per-example gradients (the empirical Fisher's diagonal), float64, one tensor a weight.

    ``example(i, flip, caption)`` gives x0 [c, h, w] and text [L, D] of image number i; flip and caption are large
    random integers, to be reduced by their remainders. Each image is met ``draws`` times; timestep (uniform), noise,
    caption and flip of a draw are named (seed, "fisher", image id, draw). Weights of Linear layers take one backward
    pass a batch; where the selection has others too, one an example.
    """
    linear = all(name.endswith(".weight") and isinstance(unet.get_submodule(name[:-7]), nn.Linear) for name in weights)
    params = [unet.get_parameter(name) for name in weights]
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in zip(weights, params)}
    rows = [(i, k) for i in range(len(ids)) for k in range(draws)]
    starts = track(range(0, len(rows), batch_size), progress)
    for start in starts:
        batch = draw_batch(scheduler, example, ids, rows[start : start + batch_size], seed, params[0].device)
        if linear:
            with PerExample(unet, weights) as record:
                torch.autograd.grad(denoising_loss(unet, scheduler, *batch).sum(), params)
                for name in weights:
                    total[name] += record.gradient(name).square().sum(0)
            continue
        for row in zip(*batch):
            loss = denoising_loss(unet, scheduler, *(x[None] for x in row)).sum()
            for name, g in zip(weights, torch.autograd.grad(loss, params, allow_unused=True)):
                total[name] += 0 if g is None else g.square()
    for name, value in total.items():
        check_finite(f"Fisher of {name}", value)
    return {name: value / len(rows) for name, value in total.items()}


def draw_batch(scheduler, example, ids, rows, seed, device):
    """Named draws of ``rows`` (image number, draw): x0, eps, t, text on ``device``."""
    last = scheduler.config.num_train_timesteps
    streams = [stream(seed, "fisher", ids[i], k) for i, k in rows]
    t = torch.tensor([int(s.integers(last)) for s in streams])
    pairs = [example(i, int(s.integers(2**31)), int(s.integers(2**31))) for (i, _), s in zip(rows, streams)]
    x0, text = (torch.stack(column).float() for column in zip(*pairs))
    eps = normals(tuple(x0.shape[1:]), [(seed, "fisher", ids[i], k, "noise") for i, k in rows])
    return [x.to(device) for x in (x0, eps, t, text)]


def query_gradient(
    unet, scheduler, weights: Sequence[str], x0: Tensor, text: Tensor, key: tuple, timesteps: Sequence[int], draws: int,
    batch_size: int = 64,
) -> tuple[float, Tensors]:
    """Mean loss of a query over ``timesteps`` x ``draws`` named noises, and its gradient in the named weights.

    ``x0``: [c, h, w]; ``text``: [L, D]; the noise is named (*key, "query", timestep, draw).
    """
    check_timesteps(scheduler, timesteps)
    params = [unet.get_parameter(name) for name in weights]
    device = params[0].device
    total, loss = [torch.zeros_like(p) for p in params], 0.0
    rows = [(int(t), k) for t in timesteps for k in range(draws)]
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        eps = normals(tuple(x0.shape), [(*key, "query", t, k) for t, k in part]).to(device)
        t = torch.tensor([t for t, _ in part], device=device)
        repeat = lambda x: x.float().to(device).expand(len(part), *x.shape)
        value = denoising_loss(unet, scheduler, repeat(x0), eps, t, repeat(text)).sum() / len(rows)
        for sum_, g in zip(total, torch.autograd.grad(value, params, allow_unused=True)):
            sum_ += 0 if g is None else g
        loss += value.item()
    gradient = dict(zip(weights, total))
    for name, value in gradient.items():
        check_finite(f"query gradient of {name}", value)
    return loss, gradient
