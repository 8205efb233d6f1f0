"""Every method by name: its function, the evidence that it asks for, its options."""

from collections.abc import Callable

import numpy as np

from abu.baselines.kernels import das, trak
from abu.baselines.similarity import chance, cosine, distance, dot

METHODS: dict[
    str, tuple[Callable, tuple[str, ...], tuple[str, ...]]
] = {  # function, evidence, options
    "random": (chance, ("names", "ids", "seed"), ()),
    "pixel": (distance, ("pixels",), ()),
    "latent": (distance, ("latents",), ()),
    "clip-image": (cosine, ("clip images",), ()),
    "clip-text": (cosine, ("clip texts",), ()),
    "dino": (cosine, ("dino images",), ()),
    "gradient-dot": (dot, ("loss gradients",), ()),
    "gradient-cosine": (cosine, ("loss gradients",), ()),
    "trak": (trak, ("loss gradients",), ("ridge", "projection")),
    "journey-trak": (trak, ("journey gradients",), ("ridge", "projection")),
    "d-trak": (trak, ("square gradients",), ("ridge", "projection")),
    "das": (das, ("mean gradients", "losses"), ("ridge", "projection")),
}


def scores(method: str, evidence: Callable[[str], object], options: dict) -> np.ndarray:
    """Scores of one method, float64 [Q, N]; ``evidence(name)`` is asked for what the method needs
    and nothing else.

    Raises KeyError for an unknown method or a missing option, FloatingPointError for scores that
    are not finite.
    """
    if method not in METHODS:
        raise KeyError(f"unknown method {method!r}; expected one of {sorted(METHODS)}")
    function, needs, wanted = METHODS[method]
    if lacking := [name for name in wanted if name not in options]:
        raise KeyError(f"method {method!r} needs the options {lacking}")
    values = function(
        *(evidence(name) for name in needs), **{name: options[name] for name in wanted}
    ).numpy()
    if not np.isfinite(values).all():
        raise FloatingPointError(
            f"{(~np.isfinite(values)).sum()} of {values.size} scores of {method!r} are not finite"
        )
    return values
