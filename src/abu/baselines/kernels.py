"""Kernel methods: TRAK, JourneyTRAK, D-TRAK, DAS on sketched gradients, and ridge regression, which
asks no model. Scores float64 [Q, N];
``ridge`` is what the search chooses."""

import torch
from torch import Tensor

from abu.baselines.similarity import Pair
from abu.data.rows import in_parts


def kernel(pair: Pair, ridge: float) -> tuple[Tensor, Tensor]:
    """``phi(q)^T (Phi^T Phi + lambda I)^-1 phi(z)`` [Q, N], and the leverages of the training
    images [N].

    ``lambda = ridge * mean_z |phi(z)|^2``, so that ``ridge`` has no unit; solved in the smaller of
    N and p dimensions (``(Phi^T Phi + lambda)^-1 Phi^T = Phi^T (Phi Phi^T + lambda)^-1``), of which
    two square matrices are held. Raises ValueError unless ridge > 0.
    """
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}; expected a number above 0")
    q = pair[0].double()
    walk = lambda: (part.double() for part in in_parts(pair[1]))
    lengths = torch.cat([part.square().sum(1) for part in walk()])
    lam, p = ridge * lengths.mean(), q.shape[1]
    if len(lengths) <= p:
        x = torch.cat(list(walk()))
        gram = x @ x.T
        damped = gram + lam * torch.eye(len(x), dtype=x.dtype)
        leverage = torch.linalg.solve(damped, gram).diagonal()  # of (K + lambda)^-1 K
        return torch.linalg.solve(damped, x @ q.T).T, leverage
    square = lam * torch.eye(p, dtype=q.dtype)
    for part in walk():
        square.addmm_(part.T, part)
    factor, columns = torch.linalg.cholesky(square), []
    for part in walk():
        solved = torch.cholesky_solve(part.T, factor)  # [p, n]
        columns.append(torch.cat([q @ solved, (part.T * solved).sum(0, keepdim=True)]))
    scores = torch.cat(columns, 1)
    return scores[:-1], scores[-1]


def trak(pair: Pair, ridge: float) -> Tensor:
    """TRAK (arXiv 2303.14186), one model: ``kernel`` of sketched loss gradients.

    JourneyTRAK (arXiv 2312.06205) is the same with a query gradient taken along the sampler's path,
    and D-TRAK (arXiv 2311.00500) with gradients of ``mean(output^2)`` in place of the loss.
    """
    return kernel(pair, ridge)[0]


def ridge_regression(pair: Pair, ridge: float) -> Tensor:
    """How far each training image is mixed into a query by ridge regression of its latents (or
    pixels) on theirs: ``kernel`` without a network. Of images that are alike, each takes its share:
    one explains the others away."""
    images = torch.cat([part.flatten(1) for part in in_parts(pair[1])])
    return kernel((pair[0].flatten(1), images), ridge)[0]


def das(pair: Pair, losses: Tensor, ridge: float) -> Tensor:
    """DAS: ``|phi(q)^T (Phi^T Phi + lambda I)^-1 phi(z)|^2 |r_z|^2 / (1 - h_z)^2``.

    phi from gradients of ``mean(output)``; ``|r_z|^2``: mean squared residual (``losses`` [N]);
    h_z: leverage.
    """
    scores, leverage = kernel(pair, ridge)
    return scores.square() * (losses.double() / (1 - leverage).square())
