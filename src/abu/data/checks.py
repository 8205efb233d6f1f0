"""Checks of what functions are given: one clear error in place of a wrong number."""

import torch


def check_counts(**counts: int) -> None:
    """Raise ValueError for a number below 1."""
    for name, value in counts.items():
        if not value >= 1:
            raise ValueError(f"{name} is {value!r}; expected 1 or more")


def check_shares(**shares: float) -> None:
    """Raise ValueError for a number outside 0..1."""
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value!r}; expected a number within 0..1")


def check_finite(name: str, values: torch.Tensor) -> None:
    """Raise FloatingPointError where a value is not finite."""
    if bad := int((~torch.isfinite(values)).sum()):
        raise FloatingPointError(f"{name}: {bad} of {values.numel()} values are not finite")
