"""A bank as a method: what retrained halves themselves say of each image (datamodels, arXiv
2202.00622)."""

import numpy as np


def regressed(
    halves: np.ndarray, differences: np.ndarray, prior: np.ndarray | None = None, ridge: float = 1.0
) -> np.ndarray:
    """Scores float64 [Q, N] by ridge regression of the pairs' ``differences`` [P, Q] on which
    images were in, ``halves`` bool [P, N]; larger: more responsible.

    With d a query's differences and X = +1 or -1 where an image was in the half or in its
    complement, the scores tau minimise ``|d + X tau|^2 + ridge * N |tau - b prior|^2``, so that
    ``ridge`` is relative to a pair's share in the kernel; b, at least 0, is what fits ``prior``
    [Q, N], another method's scores, to d by itself.
    """
    x = 2.0 * halves - 1
    start = np.zeros((differences.shape[1], x.shape[1]))
    if prior is not None:
        told = -x @ prior.T
        size = (told**2).sum(0)
        b = np.divide((told * differences).sum(0), size, out=np.zeros_like(size), where=size > 0)
        start = np.maximum(b, 0)[:, None] * prior
    rest = differences + x @ start.T
    kernel = x @ x.T + ridge * x.shape[1] * np.eye(len(x))
    return start - (x.T @ np.linalg.solve(kernel, rest)).T
