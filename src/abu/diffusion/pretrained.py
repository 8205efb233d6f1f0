"""A part of a model in diffusers' format, as its authors saved it: whole, in float32, and with
nothing of its config ignored."""

import inspect
from pathlib import Path

import torch

AVERAGED = {  # what diffusers' EMAModel adds to the config of a model that it saves
    "decay",
    "inv_gamma",
    "min_decay",
    "optimization_step",
    "power",
    "update_after_step",
    "use_ema_warmup",
}


def load_part(kind, source: str | Path, part: str | None, device: torch.device | str = "cpu"):
    """Frozen model of class ``kind`` in folder ``part`` (None: the folder itself) of a folder or
    hub name, float32, in evaluation mode; from files of variant fp16 where there are no others.

    Raises OSError for files that are missing, ValueError for weights that the model lacks or does
    not know, which the libraries would draw or leave out.
    """
    options = {"subfolder": part or "", "output_loading_info": True}
    try:
        model, info = kind.from_pretrained(source, **options)
    except OSError as plain:
        try:
            model, info = kind.from_pretrained(source, variant="fp16", **options)
        except OSError:
            raise plain from None
    for key, verb in (("unexpected_keys", "do not belong to"), ("missing_keys", "are missing of")):
        if names := sorted(info[key]):
            raise ValueError(
                f"{place(source, part)}: {len(names)} weights {verb} {kind.__name__}: {names[:3]}; "
                "expected all of them and no other"
            )
    return model.float().to(device).requires_grad_(False).eval()


def place(source: str | Path, part: str | None) -> str:
    """How errors name a part of a model."""
    return f"{source}/{part}" if part else str(source)


def check_config(kind, config: dict, where: str, ignored: set[str] = AVERAGED) -> None:
    """Raise ValueError for a config of another class of diffusers than ``kind``, or that sets what
    the class does not know and so would leave out."""
    if (class_name := config.get("_class_name", kind.__name__)) != kind.__name__:
        raise ValueError(f"{where} is of class {class_name}; expected {kind.__name__}")
    allowed = inspect.signature(kind.__init__).parameters.keys() | ignored
    for key, value in config.items():
        if not key.startswith("_") and key not in allowed and value not in (None, False):
            raise ValueError(
                f"{where} has {key}: {value!r}, which {kind.__name__} does not know; expected some "
                f"of {sorted(allowed - ignored)}"
            )


def refuse(where: str, config: dict, expected: dict[str, tuple]) -> None:
    """Raise ValueError for a key of a config whose value is none of those expected; what is not set
    is fine."""
    for key, values in expected.items():
        if key in config and config[key] not in values:
            allowed = " or ".join(map(repr, values))
            raise ValueError(f"{where} has {key}: {config[key]!r}; expected {allowed}")
