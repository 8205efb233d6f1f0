"""The model that is asked, and how it is run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from abu.data.checks import check_counts
from abu.diffusion.device import find_device
from abu.diffusion.unet import speed_up

NOT_HASHED = {"hashed": False}


@dataclass(frozen=True)
class Denoiser:
    """A U-Net with its scheduler and the names of its attributed weights.

    ``speed``: options of ``abu.diffusion.unet.speed_up``. ``device`` and ``batch_size`` change
    results by rounding alone, so that a task that was finished elsewhere, or in other batches,
    counts as finished. Raises ValueError for a batch below 1.
    """

    unet: nn.Module
    scheduler: Any  # of diffusers
    weights: Sequence[str] = ()
    device: str = field(default="cpu", metadata=NOT_HASHED)
    batch_size: int = field(default=64, metadata=NOT_HASHED)
    speed: dict = field(default_factory=dict)

    def __post_init__(self):
        check_counts(batch_size=self.batch_size)

    def model(self) -> nn.Module:
        """The U-Net on the device of whoever runs a task, as fast as asked for."""
        return speed_up(self.unet.to(find_device(self.device)), **self.speed)
