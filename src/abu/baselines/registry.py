"""Every method by name: its function, the evidence that it asks for, its options."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import product

import numpy as np

from abu.baselines.coupling import at_damping, coupling_ridge
from abu.baselines.kernels import das, ridge_regression, trak
from abu.baselines.similarity import bm25, chance, cosine, distance, dot
from abu.data.checks import check_finite

METHODS: dict[str, tuple[Callable, tuple, tuple]] = {  # function, evidence, options
    "random": (chance, ("names", "ids", "seed"), ()),
    "pixel": (distance, ("pixels",), ()),
    "latent": (distance, ("latents",), ()),
    "latent-ridge": (ridge_regression, ("latents",), ("ridge",)),
    "clip-image": (cosine, ("clip images",), ()),
    "clip-text": (cosine, ("clip texts",), ()),
    "bm25": (bm25, ("words",), ()),
    "dino": (cosine, ("dino images",), ()),
    "gradient-dot": (dot, ("loss gradients",), ()),
    "gradient-cosine": (cosine, ("loss gradients",), ()),
    "trak": (trak, ("loss gradients",), ("ridge",)),
    "journey-trak": (trak, ("journey gradients",), ("ridge",)),
    "d-trak": (trak, ("square gradients",), ("ridge",)),
    "das": (das, ("mean gradients", "losses"), ("ridge",)),
    "abu-whole": (at_damping, ("loss couplings",), ("damping",)),
    "coupling": (at_damping, ("couplings",), ("damping",)),
    "coupling-ridge": (coupling_ridge, ("couplings", "image couplings"), ("damping", "ridge")),
}


def settings(
    choices: Mapping[str, Sequence], lacking: Collection[str]
) -> list[tuple[str, dict[str, float]]]:
    """Every method whose evidence is not ``lacking`` with each combination of its options, of
    ``choices`` by name; one damping after the other, since of its large matrices one is kept."""
    combinations = [
        (method, dict(zip(names, values)))
        for method, (_, needs, names) in METHODS.items()
        if not set(needs) & set(lacking)
        for values in product(*(choices[name] for name in names))
    ]
    return sorted(combinations, key=lambda setting: setting[1].get("damping", 0))


def scores(method: str, evidence: Callable[[str], object], options: dict) -> np.ndarray:
    """Scores of one method, float64 [Q, N]; ``evidence(name)`` is asked for what the method needs
    and nothing else.

    Raises KeyError for an unknown method or a missing option, FloatingPointError for scores that
    are not finite.
    """
    if method not in METHODS:
        raise KeyError(f"unknown method {method!r}; expected one of {sorted(METHODS)}")
    function, needs, names = METHODS[method]
    if lacking := [name for name in names if name not in options]:
        raise KeyError(f"method {method!r} needs the options {lacking}")
    kwargs = {name: options[name] for name in names}
    values = function(*(evidence(name) for name in needs), **kwargs)
    check_finite(f"scores of {method!r}", values)
    return values.numpy()
