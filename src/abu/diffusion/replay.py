"""Is a recorded model what this recipe makes of these images? Its first steps are trained again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

# of a step's loss: threads and convolutions of another kind change 1.3e-7 in 30 steps, a learning
# rate 1 % off 4e-4
TOLERANCE = 1e-4


def check_recipe(file: Path, recorded: Mapping, asked: Mapping) -> None:
    """Raise ValueError where a recorded model was trained by another recipe than is asked for; it
    names each parameter."""
    names = sorted(recorded.keys() | asked.keys())
    differing = [name for name in names if recorded.get(name) != asked.get(name)]
    if differing:
        differences = "; ".join(
            f"{name} is {asked.get(name)!r}, recorded was {recorded.get(name)!r}"
            for name in differing
        )
        raise ValueError(
            f"{file} is of another recipe: {differences}; train anew, or ask for that one"
        )


def check_replay(
    file: Path, recorded: Sequence[float], again: Sequence[float], tolerance: float = TOLERANCE
) -> float:
    """Largest relative difference of the losses of the first steps, trained ``again``, to the
    recorded ones.

    Raises ValueError where one is above ``tolerance``: what is recorded was made by other code,
    or of other images, than are here.
    """
    once, now = np.asarray(recorded, np.float64)[: len(again)], np.asarray(again, np.float64)
    nothing = np.isnan(once) & np.isnan(now)  # steps whose images were all left out
    off = np.where(nothing, 0, np.abs(now - once) / once)
    if not (off <= tolerance).all():
        step = int(np.argmax(~(off <= tolerance)))
        raise ValueError(
            f"{file}: trained again, step {step} has the loss {now[step]:.6f}; recorded was "
            f"{once[step]:.6f}, {off[step]:.1e} off where {tolerance:.0e} is allowed. The recipe "
            "is the same: images, components or the code of training differ; train anew"
        )
    return float(off.max())
