"""The U-Net: from a folder or a file of weights, made faster, and the choice of its attributed
weights."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from abu.data.readers import bare, named, read_tensors
from abu.diffusion.attention import share_text
from abu.diffusion.pretrained import check_config, load_part, place, refuse

SELECTIONS = {  # which parameters are attributed, by their names
    "cross-attn-kv": lambda name: "attn2.to_k" in name or "attn2.to_v" in name,
    "cross-attn": lambda name: "attn2." in name,
    "attn": lambda name: "attn1." in name or "attn2." in name,
    "all": lambda name: True,
}
ALONE = {  # of a U-Net's config: latents, a timestep and token states are all that it is given
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "addition_embed_type": (None,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "time_cond_proj_dim": (None,),
    "dual_cross_attention": (None, False),
    "attention_type": (None, "default"),
}
PRECISIONS = ("float32", "tf32", "bf16")


def load_unet(folder: str | Path, device: torch.device | str = "cpu") -> UNet2DConditionModel:
    """Trained U-Net, frozen, in evaluation mode."""
    return UNet2DConditionModel.from_pretrained(folder).to(device).requires_grad_(False).eval()


def load_published(
    source: str | Path, latent: tuple[int, ...], text: int, device: torch.device | str = "cpu"
) -> UNet2DConditionModel:
    """Frozen U-Net, float32, of a whole model in diffusers' format, a folder or hub name; or of a
    folder that holds a U-Net alone (``unet_ema`` of a training script).

    Raises ValueError unless it takes latents of that shape [c, h, w] and token states of that
    width, and as ``check_unet`` and ``load_part``.
    """
    config, subfolder = published_config(source)
    sizes = (config.get("in_channels", 4), config.get("cross_attention_dim", 1280))
    if sizes != (latent[0], text):
        raise ValueError(
            f"the U-Net of {source} takes (latent channels, text width) {sizes}; prepared were "
            f"{(latent[0], text)}"
        )
    return load_part(UNet2DConditionModel, source, subfolder, device)


def published_config(source: str | Path) -> tuple[dict, str | None]:
    """Config of a model's U-Net, and its folder there (None: the folder itself). Raises ValueError
    as ``check_unet``."""
    alone = not Path(source, "unet").is_dir() and Path(source, "config.json").is_file()
    subfolder = None if alone else "unet"
    config = dict(UNet2DConditionModel.load_config(source, subfolder=subfolder))
    check_unet(config, place(source, subfolder))
    return config, subfolder


def check_unet(config: dict, where: str) -> None:
    """Raise ValueError unless a config is that of a U-Net that takes latents, a timestep and token
    states alone, and predicts as many channels as it takes."""
    check_config(UNet2DConditionModel, config, where)
    channels = {"out_channels": (config.get("in_channels", 4),)}
    refuse(where, {"out_channels": 4, **config}, ALONE | channels)


def load_weights(
    path: Path, config: dict, device: torch.device | str = "cpu"
) -> UNet2DConditionModel:
    """Frozen U-Net of a diffusers ``config`` with the weights of a state dict (``.bin``, ``.pt`` or
    ``.safetensors``), float32; the state dict may be wrapped and prefixed (``bare``).

    Raises ValueError unless the names and shapes are those of the config, and as ``check_unet``.
    """
    check_unet(config, "train.unet")
    with torch.device("meta"):  # no initial weights are drawn
        unet = UNet2DConditionModel(**config)
    shapes, state = (
        {name: tuple(value.shape) for name, value in unet.state_dict().items()},
        bare(path, read_tensors(path)),
    )
    if isinstance(state, dict) and (unknown := [name for name in state if name not in shapes]):
        raise ValueError(
            f"{path} has {len(unknown)} entries that the U-Net of train.unet lacks: {unknown[:3]}"
        )
    weights = {
        name: value.to(torch.float32, copy=True)
        for name, value in named(path, state, shapes).items()
    }  # a mapped file is unaligned
    unet.load_state_dict(weights, assign=True)
    return unet.to(device).requires_grad_(False).eval()


def speed_up(
    unet: nn.Module, precision: str = "float32", compile: bool = False, channels_last: bool = False
) -> nn.Module:
    """The U-Net as asked for, changed in place, once: captions may be shared by rows
    (``abu.diffusion.attention``); ``precision`` of its forward and backward passes: ``float32``,
    ``tf32`` (matrix products and convolutions of NVIDIA's tensor cores), ``bf16`` (autocast,
    weights stay float32); ``compile``: by ``torch.compile``; ``channels_last``: memory layout of
    convolutions.

    Raises ValueError for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {PRECISIONS}")
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    options = (precision, compile, channels_last)
    if getattr(unet, "sped_up", None) == options:
        return unet
    share_text(unet)
    if channels_last:
        unet.to(memory_format=torch.channels_last)
    if precision == "bf16":
        unet.forward = torch.autocast(unet.device.type, torch.bfloat16)(
            type(unet).forward.__get__(unet)
        )
    if compile:
        unet.compile()
    unet.sped_up = options
    return unet


def select_weights(unet: nn.Module, selection: str) -> list[str]:
    """Names of the attributed parameters; sets exactly them to require a gradient.

    Raises ValueError for an unknown selection or one that matches nothing.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"weight selection is {selection!r}; expected one of {sorted(SELECTIONS)}")
    names = [name for name, _ in unet.named_parameters() if SELECTIONS[selection](name)]
    if not names:
        raise ValueError(
            f"weight selection {selection!r} matches no parameter of {type(unet).__name__}"
        )
    unet.requires_grad_(False)
    for name in names:
        unet.get_parameter(name).requires_grad_(True)
    return names
