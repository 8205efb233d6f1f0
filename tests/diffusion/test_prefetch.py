"""Batches that are made ahead."""

from functools import partial

import pytest
import torch

from abu.diffusion.prefetch import prefetch


def test_prefetch_keeps_order_and_raises_in_its_place() -> None:
    def batch(n: int):
        if n == 3:
            raise ValueError("batch 3 is broken")
        return n, [torch.full((2,), float(n))]

    seen = []
    with pytest.raises(ValueError, match="batch 3 is broken"):
        for label, (x,) in prefetch([partial(batch, n) for n in range(5)], "cpu"):
            seen.append((label, x.tolist()))
    assert seen == [(n, [n, n]) for n in range(3)]
    assert list(prefetch([], "cpu")) == []
