"""The next batch is made while an accelerator computes this one."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

Batch = tuple[Any, Sequence[Tensor]]


def prefetch(
    batches: Sequence[Callable[[], Batch]], device: torch.device | str
) -> Iterator[tuple[Any, list[Tensor]]]:
    """Label and tensors of each batch, in order, the tensors on ``device``.

    For an accelerator a thread makes one batch ahead, which it takes from pinned memory without
    waiting. On the CPU a second thread only takes from those that compute (a third of a loss pass
    on two threads, to hide a fortieth). A batch's error comes out where the batch would.
    """
    device = torch.device(device)
    if device.type == "cpu":
        for batch in batches:
            label, tensors = batch()
            yield label, [x.to(device) for x in tensors]
        return

    def make(batch: Callable[[], Batch]) -> Batch:
        label, tensors = batch()
        return label, [x.pin_memory() for x in tensors] if device.type == "cuda" else tensors

    with ThreadPoolExecutor(1) as thread:
        waiting = None
        for batch in [*batches, None]:
            ready, waiting = waiting, batch and thread.submit(make, batch)
            if ready:
                label, tensors = ready.result()
                yield label, [x.to(device, non_blocking=True) for x in tensors]
