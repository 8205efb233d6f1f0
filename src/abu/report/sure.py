"""How sure the answers for one query are: what retrained models say of each method's scores for
it, and the standard errors of scores that are means."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from abu.judge.errors import reduced
from abu.judge.lds import ALL, table_of
from abu.judge.sharpen import sharpen
from abu.judge.verdict import Verdict
from abu.report.page import Measured


def judged_of(
    verdict: Verdict,
    numbers: Sequence[int],
    scores: Mapping[str, np.ndarray],
    sharpness: Mapping[str, float | None],
    seed: int = 0,
    resamples: int = 400,
) -> dict[int, dict[str, Measured]]:
    """Linear datamodelling score of each method for each query that the bank was asked about, by
    the query's number and the method, with 95 % intervals over pairs of halves.

    ``numbers``: of the Q queries; ``scores``: [Q, N] by method, and how much ``sharpness`` each is
    given, as in ``abu.judge.sharpen``.
    """
    known = np.asarray(numbers)[verdict.known]
    of = lambda method: sharpen(scores[method][verdict.known], sharpness.get(method))
    values = {method: of(method) for method in scores}
    number_of = {f"query {number}": int(number) for number in known}
    given = verdict.halves, verdict.differences, list(number_of)
    judged: dict[int, dict[str, Measured]] = {number: {} for number in number_of.values()}
    for row in table_of(values, *given, seed, resamples).itertuples():
        if row.kind != ALL:
            judged[number_of[row.kind]][row.method] = Measured(row.lds, row.low, row.high)
    return judged


def errors_of(
    rises: np.ndarray,
    numbers: Sequence[int],
    ids: Sequence[int],
    counts: Iterable[int] | None = None,
) -> pd.DataFrame:
    """Standard errors of mean rises of the loss, a row a query and a column an image, over
    captions, timesteps and noises (``abu.judge.errors``); ``rises``: [Q, N, flips, captions, T],
    ``counts``: captions of each image, where they differ.

    What a timestep adds to every image's rise says nothing of one image, so it is taken off first.
    Raises ValueError for a single timestep, which has none.
    """
    if rises.shape[-1] < 2:
        raise ValueError("one timestep has no standard error")
    beside = rises - rises.mean((1, 2), keepdims=True, dtype=np.float64)
    has = None if counts is None else torch.tensor(list(counts))
    errors = reduced(torch.from_numpy(beside), counts=has)[1].numpy()
    return pd.DataFrame(errors, index=list(numbers), columns=list(ids))
