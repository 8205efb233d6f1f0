"""Batches that are made ahead."""

import threading
from functools import partial

import pytest
import torch

from abu.diffusion.prefetch import prefetch


@pytest.mark.parametrize("device, threads", [("cpu", 1), ("meta", 2)])  # meta: as an accelerator
def test_prefetch_keeps_order_and_raises_in_its_place(device: str, threads: int) -> None:
    makers = {threading.get_ident()}

    def batch(n: int):
        makers.add(threading.get_ident())
        if n == 3:
            raise ValueError("batch 3 is broken")
        return n, [torch.full((2,), float(n))]

    seen = []
    with pytest.raises(ValueError, match="batch 3 is broken"):
        for label, (x,) in prefetch([partial(batch, n) for n in range(5)], device):
            seen.append((label, x.device.type, x.tolist() if device == "cpu" else [label, label]))
    assert seen == [(n, device, [n, n]) for n in range(3)] and len(makers) == threads
    assert list(prefetch([], device)) == []
