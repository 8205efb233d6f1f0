"""Coupling: how far what an image can teach the model's output reaches into the output for a query;
and AbU's quick form on all weights, which asks the same of the query's loss alone.

Rows are sketched gradients at T timesteps: of an image ``J_z^T w`` for W random output cotangents,
[T, W, p]; of a query ``J_q^T v`` for V of them, or its loss gradient (V = 1). H, the whole
Gauss-Newton matrix of the training loss, is sampled by the images' rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from abu.baselines.similarity import Pair
from abu.data.rows import Parts, in_parts

ASKED = 1
"""Cotangents of an image that is asked as a query: with more the judge saw no difference."""
MOST = 1000
"""Images that are all asked about each other: what that takes grows with their square."""


def gauss_newton_matrix(rows: Tensor | Parts) -> Tensor:
    """``H``: mean of ``g g^T`` over rows g [N, T, W, p], float32 [p, p]; neither diagonal nor
    Kronecker form."""
    total, count = torch.zeros(()), 0
    for part in in_parts(rows):
        flat = part.flatten(0, 2).float()
        total = total if count else flat.new_zeros(2 * flat.shape[1:])
        total, count = total.addmm_(flat.T, flat), count + len(flat)
    return total.div_(count)


def damped_factor(matrix: Tensor, damping: float) -> Tensor:
    """Cholesky factor L, ``L L^T = H + damping mean(diag H)``, float32 [p, p], computed in float64;
    ``matrix``: H [p, p]. Raises ValueError unless damping > 0."""
    if not damping > 0:
        raise ValueError(f"damping is {damping}; expected a number above 0")
    damped = matrix.double()
    damped.diagonal().add_(damping * matrix.diagonal().mean())
    return torch.linalg.cholesky(damped, out=damped).float()  # in place: p is large


def coupling(pair: Pair, factor: Tensor) -> Tensor:
    """``exp mean_{t, s} log mean_{v, w} (g_{q,t,v}^T (L L^T)^-1 g_{z,s,w})^2``, float64 [Q, N]:
    rows g of query and image at timesteps t and s; ``factor``: L of the damped H.

    With ``g_q = J_q^T v`` the square's mean is ``|J_q H^-1 J_z^T|^2``, what a step that fits
    anything at z changes in the output at q; with the query's loss gradient it is the Gauss-Newton
    term of AbU's answer (``abu.core.influence``) for one Newton step. The geometric mean over pairs
    of timesteps counts each pair alike, whatever its scale.
    """
    queries, timesteps, draws, _ = pair[0].shape
    solved = torch.cholesky_solve(pair[0].flatten(0, 2).float().T.contiguous(), factor)
    columns = []
    for part in in_parts(pair[1]):
        squares = (part.flatten(0, 2).float() @ solved).square()
        squares = squares.reshape(*part.shape[:3], queries, timesteps, draws).mean((2, 5))
        columns.append(squares.double().clamp_min(1e-300).log().mean((1, 3)).exp())
    return torch.cat(columns).T


def check_few(images: int) -> None:
    """Raise ValueError for more images than are all asked about each other."""
    if images > MOST:
        problem = f"coupling-ridge asks each of {images} images about each other"
        raise ValueError(f"{problem}; expected at most {MOST}: leave it out of compare.methods")


def among_images(rows: Tensor | Parts, factor: Tensor) -> Tensor:
    """``coupling`` of the training images with each other, float64 [N, N]: each is asked as a query
    by its first ``ASKED`` cotangents. Raises ValueError for more than ``MOST`` images."""
    check_few(rows.n if isinstance(rows, Parts) else len(rows))
    queries = torch.cat([part[:, :, :ASKED] for part in in_parts(rows)])
    return coupling((queries, rows), factor)


def explain_away(queries: Tensor, images: Tensor, ridge: float) -> Tensor:
    """``C_qz (C_zz + ridge mean(diag C_zz))^-1`` of couplings C_qz (``coupling``) and C_zz
    (``among_images``), float64 [Q, N]: of images that couple with each other, one explains the
    others away. Raises ValueError unless ridge > 0.
    """
    if not ridge > 0:
        raise ValueError(f"ridge is {ridge}; expected a number above 0")
    damped = images + ridge * images.diagonal().mean() * torch.eye(len(images), dtype=images.dtype)
    return torch.linalg.solve(damped.T, queries.T).T


def at_damping(couplings: Callable[[float], Tensor], damping: float) -> Tensor:
    """Couplings [Q, N] under one damping, as a method."""
    return couplings(damping)


def coupling_ridge(
    queries: Callable[[float], Tensor],
    images: Callable[[float], Tensor],
    damping: float,
    ridge: float,
) -> Tensor:
    """``explain_away`` of couplings by damping, as a method."""
    return explain_away(queries(damping), images(damping), ridge)
