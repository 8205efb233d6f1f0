"""Muon: steepest descent of matrices under the spectral norm (Jordan et al. 2024), in float32.

torch's own ``Muon`` computes in bfloat16, which some processors emulate a hundred times slower, and
takes no convolution.
"""

from collections import defaultdict

import torch
from torch import Tensor, nn

A, B, C = 3.4445, -4.7750, 2.0315  # of the quintic step x -> A x + B x^3 + C x^5
OUTER = ("conv_in", "conv_out", "quant_conv", "time_embedding", "time_emb_proj")


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearly ``U V^T`` of each matrix ``U S V^T``, [B, m, n]: singular values within about 0.7 and
    1.2, by Newton-Schulz steps."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x if wide else x.mT


def matrices_and_rest(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters for Muon, matrices and convolutions but for the first, the last (of an
    autoencoder's halves, too) and those of the timestep; and all others."""
    named = list(model.named_parameters())
    inner = {name for name, p in named if p.ndim > 1 and not any(part in name for part in OUTER)}
    return [p for name, p in named if name in inner], [p for name, p in named if name not in inner]


class Muon(torch.optim.Optimizer):
    """Each matrix (a convolution is flattened to one) moves by ``lr`` times the orthogonalised
    Nesterov momentum of its gradient, times ``sqrt(max(1, m / n))``; matrices of one shape in
    one batch of products."""

    def __init__(self, params, lr: float = 0.02, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            shapes = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.flatten(1).shape].append(p)
            for (m, n), params in shapes.items():
                moves = []
                for p in params:
                    state = self.state[p]
                    mean = state.setdefault("momentum", torch.zeros_like(p))
                    mean.lerp_(p.grad, 1 - group["momentum"])
                    moves.append(p.grad.lerp(mean, group["momentum"]).flatten(1))
                rate = group["lr"] * max(1, m / n) ** 0.5
                for p, move in zip(params, orthogonal(torch.stack(moves))):
                    p.add_(move.view_as(p), alpha=-rate)
