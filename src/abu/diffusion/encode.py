"""Images and captions become latents and token states on disk; or somebody else's are adopted."""

from pathlib import Path

import numpy as np
import torch

from abu.data.files import write_array, write_parts
from abu.data.pictures import check_pictures, read_image
from abu.data.prepared import describe
from abu.data.progress import track
from abu.diffusion.components import Components


def adopt(
    latents: np.ndarray,
    texts: np.ndarray,
    records,
    components: Components,
    out: Path,
    side: int,
    background: str = "white",
) -> None:
    """What ``prepare`` would leave of ``records``, from arrays that somebody else encoded, copied
    part by part: scaled ``latents`` [N, F, c, h, w], ``texts`` [N, C, L, D]. Raises ValueError
    for arrays of other shapes than the components make and for pictures that cannot be read,
    FloatingPointError for values that are not finite."""
    empty, latent = components.texts([""]), components.encode(torch.zeros(1, 3, side, side))
    for name, shape, expected in (
        ("token states", texts.shape[2:], empty.shape[1:]),
        ("latents", latents.shape[2:], latent.shape[1:]),
    ):
        if tuple(shape) != tuple(expected):
            raise ValueError(
                f"{name} are {tuple(shape)}; the components make {tuple(expected)} at {side} pixels"
            )

    check_pictures([record.path for record in records], background)

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
    facts = {"captions": texts.shape[1], "side": side, "background": background}
    describe(records, out, **facts, token_states=str(texts.dtype))


def prepare(
    records,
    components: Components,
    out: Path,
    side: int,
    token_states: str,
    progress: str = "",
    background: str = "white",
) -> None:
    """Encode images, mirror images and captions into memory-mapped arrays, one batch in memory at a
    time.

    ``records``: from ``load_captions``. Where they differ in captions, places of those that an
    image lacks hold what cannot be used: NaN, or token ids of -1; and the manifest has ``counts``.
    ``token_states``: ``float16``, ``float32``, or ``on-the-fly`` (token ids alone are stored).
    ``background``: of transparent pictures. Before anything is encoded all pictures are read once.
    Raises ValueError for pictures that cannot be read, for other token states, no colour or a side
    that the autoencoder does not divide, FloatingPointError for an image whose latents are not
    finite.
    """
    if token_states not in ("float16", "float32", "on-the-fly"):
        raise ValueError(
            f"token_states is {token_states!r}; expected float16, float32 or on-the-fly"
        )
    if side < 1:
        raise ValueError(f"side is {side}; expected 1 pixel or more")
    if side % (factor := components.factor):
        raise ValueError(
            f"side is {side}; expected a multiple of {factor}, by which latents reduce pixels"
        )
    check_pictures([record.path for record in records], background)
    counts = [len(record.captions) for record in records]
    captions = max(counts)
    empty = components.texts([""])
    arrays = {}

    def put(name: str, dtype: str, row: int, values: torch.Tensor, columns: int) -> None:
        if name not in arrays:
            path, shape = out / f".{name}.npy", (len(records), columns, *values.shape[1:])
            arrays[name] = np.lib.format.open_memmap(path, "w+", dtype, shape)
        arrays[name][row, : len(values)] = values
        arrays[name][row, len(values) :] = -1 if dtype == "int32" else np.nan

    try:
        for row, record in enumerate(track(records, progress)):
            pixels = torch.from_numpy(read_image(record.path, side, background))
            latents = components.encode(torch.stack([pixels, pixels.flip(-1)]))
            if not latents.isfinite().all():
                raise FloatingPointError(f"latents of {record.path} are not finite")
            put("latents", "float32", row, latents, 2)
            tokens = components.tokens(list(record.captions))
            if token_states == "on-the-fly":
                put("texts", "int32", row, tokens, captions)
            else:
                put("texts", token_states, row, components.states(tokens), captions)
        for name, values in arrays.items():
            values.flush()
            (out / f".{name}.npy").rename(out / f"{name}.npy")
    finally:
        for name in arrays:
            (out / f".{name}.npy").unlink(missing_ok=True)
    write_array(out / "empty.npy", empty[0])
    facts = {"captions": captions, "side": side, "background": background}
    facts |= {"counts": counts} if min(counts) < captions else {}
    describe(records, out, **facts, token_states=token_states)


def cut(records, components: Components) -> list[tuple[int, str]]:
    """Image id and caption of each caption that is longer than the tokenizer takes, whose end the
    model never sees."""
    every = [(record.id, caption) for record in records for caption in record.captions]
    token_ids = components.tokenizer([caption for _, caption in every], verbose=False).input_ids
    most = components.length
    return [pair for pair, tokens in zip(every, token_ids) if len(tokens) > most]
