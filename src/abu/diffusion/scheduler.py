"""What noise means: any of diffusers' schedulers of one family, as DDIM, which draws by the same
betas."""

import inspect
from pathlib import Path

import diffusers
from diffusers import DDIMScheduler

from abu.diffusion.pretrained import place, refuse

FAMILY = (  # one training, many ways to draw; diffusers loads them from each other's configs
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
)
EXPECTED = {  # of these, what training and drawing here can mean
    "prediction_type": ("epsilon", "v_prediction"),
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "timestep_type": ("discrete",),
    "use_flow_sigmas": (False, None),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
}


def defaults(name: str) -> dict:
    """What a scheduler of diffusers takes, and takes for granted, by name."""
    options = inspect.signature(getattr(diffusers, name).__init__).parameters.values()
    return {o.name: o.default for o in options if o.name not in ("self", "kwargs")}


def load_scheduler(source: str | Path, changes: dict | None = None) -> DDIMScheduler:
    """Scheduler of a folder or hub name in diffusers' format, with changes of its config.

    What the config does not say is as its own class has it, but for ``clip_sample``, which is off:
    latents of Stable Diffusion leave [-1, 1]. Raises KeyError for a change of what DDIM does not
    have, ValueError for a class outside FAMILY, a key that none of them knows, and a value outside
    EXPECTED.
    """
    where = place(source, "scheduler")
    config = dict(DDIMScheduler.load_config(source, subfolder="scheduler"))
    name = config.get("_class_name", "DDIMScheduler")
    if name not in FAMILY:
        raise ValueError(f"{where} is of class {name}; expected one of {', '.join(FAMILY)}")
    config, options = (
        {k: v for k, v in config.items() if not k.startswith("_")},
        defaults("DDIMScheduler"),
    )
    family_keys = set().union(*map(defaults, FAMILY))
    if unknown := [key for key in config if key not in family_keys]:
        extra = {key: config[key] for key in unknown}
        raise ValueError(f"{where} has {extra}, which no scheduler of diffusers' knows")
    if unknown := (changes or {}).keys() - options:
        raise KeyError(
            f"the scheduler has no {sorted(unknown)}; expected some of {sorted(options)}"
        )
    granted = {"clip_sample": False} | {
        key: value
        for key, value in defaults(name).items()
        if key in options and key != "clip_sample"
    }
    config = {**granted, **config, **(changes or {})}
    refuse(where, config, EXPECTED)
    return DDIMScheduler.from_config({key: config[key] for key in options if key in config})
