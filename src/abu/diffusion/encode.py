"""Images and captions become latents and token states on disk; or somebody else's are adopted."""

from pathlib import Path

import numpy as np
import torch

from abu.data.files import write_array, write_parts
from abu.data.prepared import describe
from abu.diffusion.components import Components


def adopt(
    latents: np.ndarray, texts: np.ndarray, records, components: Components, out: Path, side: int
) -> None:
    """What ``prepare`` would leave of ``records``, from arrays that somebody else encoded, copied
    part by part: scaled ``latents`` [N, F, c, h, w], ``texts`` [N, C, L, D]. Raises ValueError
    for arrays of other shapes than the components make, FloatingPointError for values that are
    not finite."""
    empty, latent = components.texts([""]), components.encode(torch.zeros(1, 3, side, side))
    for name, found, made in (
        ("token states", texts.shape[2:], empty.shape[1:]),
        ("latents", latents.shape[2:], latent.shape[1:]),
    ):
        if tuple(found) != tuple(made):
            raise ValueError(
                f"{name} are {tuple(found)}; the components make {tuple(made)} at {side} pixels"
            )

    def parts(name: str, array: np.ndarray):
        for start in range(0, len(array), 64):
            part = torch.from_numpy(np.array(array[start : start + 64]))
            if not torch.isfinite(part).all():
                raise FloatingPointError(
                    f"{name} of images number {start} to {start + len(part) - 1} are not all finite"
                )
            yield part

    write_parts(out / "latents.npy", latents.shape, str(latents.dtype), parts("latents", latents))
    write_parts(out / "texts.npy", texts.shape, str(texts.dtype), parts("token states", texts))
    write_array(out / "empty.npy", empty[0])
    describe(records, out, captions=texts.shape[1], side=side, token_states=str(texts.dtype))


def prepare(
    records, components: Components, out: Path, side: int, token_states: str, progress: str = ""
) -> None:
    """Encode images, mirror images and captions into memory-mapped arrays, one batch in memory at a
    time.

    ``records``: from ``load_captions``; images with more captions than the fewest keep their first
    ones. ``token_states``: ``float16``, ``float32``, or ``on-the-fly`` (token ids alone are
    stored). Raises ValueError for another, or a side that the autoencoder does not divide,
    FloatingPointError for an image whose latents are not finite.
    """
    from abu.data.pictures import read_image
    from abu.data.progress import track

    if token_states not in ("float16", "float32", "on-the-fly"):
        raise ValueError(
            f"token_states is {token_states!r}; expected float16, float32 or on-the-fly"
        )
    factor = 2 ** (len(components.vae.config.block_out_channels) - 1)
    if side < 1 or side % factor:
        raise ValueError(
            f"side is {side}; expected a multiple of {factor}, by which the autoencoder reduces "
            "pixels"
        )
    captions = min(len(record.captions) for record in records)
    empty = components.texts([""])
    arrays = {}

    def array(name: str, dtype: str, *shape: int) -> np.ndarray:
        if name not in arrays:
            path = out / f".{name}.npy"
            arrays[name] = np.lib.format.open_memmap(path, "w+", dtype, (len(records), *shape))
        return arrays[name]

    try:
        for row, record in enumerate(track(records, progress)):
            pixels = torch.from_numpy(read_image(record.path, side))
            latents = components.encode(torch.stack([pixels, pixels.flip(-1)]))
            if not latents.isfinite().all():
                raise FloatingPointError(f"latents of {record.path} are not finite")
            array("latents", "float32", *latents.shape)[row] = latents
            tokens = components.tokens(list(record.captions[:captions]))
            if token_states == "on-the-fly":
                array("texts", "int32", *tokens.shape)[row] = tokens
            else:
                texts = components.states(tokens)
                array("texts", token_states, *texts.shape)[row] = texts
        for name, values in arrays.items():
            values.flush()
            (out / f".{name}.npy").rename(out / f"{name}.npy")
    finally:
        for name in arrays:
            (out / f".{name}.npy").unlink(missing_ok=True)
    write_array(out / "empty.npy", empty[0])
    describe(records, out, captions=captions, side=side, token_states=token_states)
