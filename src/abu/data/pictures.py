"""Picture files as pixels: what a viewer shows of them, on a background; or refused by name."""

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

with suppress(ImportError):  # the extra heic
    from pillow_heif import register_heif_opener

    register_heif_opener()

SHOWN = 20
"""Most bad pictures that an error names."""

SRGB = ImageCms.createProfile("sRGB")
FEW_BITS = {  # of PNG: a clear colour as its file has it, in 8 bits
    "L;2": lambda grey: 85 * grey,
    "L;4": lambda grey: 17 * grey,
    "RGB;16B": lambda colour: tuple(value >> 8 for value in colour),
}


def read_image(path: Path, side: int, background: str = "white") -> np.ndarray:
    """RGB pixels, float32 [3, side, side] in [-1, 1]: shorter edge resized to ``side``, then a
    centre crop. ``background``: the colour behind a picture that is transparent.

    Raises ValueError for a file that is no readable image, no colour, or a side below 1.
    """
    if side < 1:
        raise ValueError(f"side is {side}; expected 1 pixel or more")
    image = as_seen(path, background)
    if image.size != (side, side):
        scale = side / min(image.size)
        image = image.resize(
            [max(side, round(s * scale)) for s in image.size], Image.Resampling.LANCZOS
        )
        left, top = [(s - side) // 2 for s in image.size]
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1


def as_seen(path: Path, background: str = "white") -> Image.Image:
    """A file's first frame in RGB as a viewer shows it: upright, in the colours of its profile, 16
    bits reduced to 8, what is transparent over ``background``.

    Raises ValueError, which names the file, for one that is no readable image, is cut off or too
    large, or whose pixels have no agreed white (32 bits, floats); and for no colour.
    """
    colour = colour_of(background)
    try:
        with Image.open(path) as file:
            return flat(file, colour)
    except Exception as error:  # Pillow raises a dozen kinds, some without the file's name
        raise ValueError(f"{path} is not a readable image: {reason(path, error)}") from error


def colour_of(background: str) -> tuple[int, int, int]:
    """Red, green and blue. Raises ValueError for what names no opaque colour."""
    with suppress(ValueError, AttributeError, TypeError):
        if len(colour := ImageColor.getrgb(background)) == 3:
            return colour
    raise ValueError(f"background is {background!r}; expected a colour, as white or '#ffffff'")


def reason(path: Path, error: Exception) -> str:
    """What is wrong with a file that Pillow does not read."""
    if not isinstance(error, UnidentifiedImageError):
        return str(error) or type(error).__name__
    with open(path, "rb") as file:
        head = file.read(12)
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "AVIF, which this Pillow was built without; Pillow's own wheels read it from 11.3 on"
    if head[4:8] == b"ftyp":
        return "HEIC or its kin, which the package pillow-heif reads: pip install 'abu[heic]'"
    return f"{error}; expected a picture that Pillow reads"


def flat(file: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """An opened picture as ``as_seen``, over a colour."""
    stored = file.tile[0].args if file.tile else None
    file.load()
    picture, profile, alpha = ImageOps.exif_transpose(file), file.info.get("icc_profile"), None
    if picture.mode[0] in "IF":
        picture = eight_bits(picture, file, stored)
    elif "transparency" in picture.info and stored in FEW_BITS:
        # Pillow changes the bits of pixels, not those of the clear colour
        picture.info["transparency"] = FEW_BITS[stored](picture.info["transparency"])
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        alpha = clear.getchannel("A")
        picture = clear.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")
    elif picture.mode != "CMYK":
        picture = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    picture = in_srgb(picture, profile)
    if alpha is None:
        return picture
    return Image.composite(picture, Image.new("RGB", picture.size, colour), alpha)


def eight_bits(picture: Image.Image, file: Image.Image, stored: object) -> Image.Image:
    """The high bytes of 16 bits of grey; ``stored``: how the file keeps pixels.

    Raises ValueError for 32 bits or floats, for which no viewer agrees on black and white.
    """
    deep = picture.mode.startswith("I;16") and "I;12" not in str(stored)
    if not deep and not (picture.mode == "I" and file.format == "PPM"):
        expected = "expected 8 or 16 bits a channel, of which the largest value is white"
        raise ValueError(f"its pixels are of mode {picture.mode} ({stored}); {expected}")
    values, clear = np.asarray(picture), picture.info.get("transparency")
    grey = (values >> 8).astype(np.uint8)
    if getattr(file, "tag_v2", {}).get(262) == 0:  # of TIFF: white is zero
        grey = 255 - grey
    if clear is None:
        return Image.fromarray(grey)
    alpha = np.where(values == clear, 0, 255).astype(np.uint8)
    return Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])


def in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB by the colour profile of a file; without one, or with one that is broken or of other
    channels, as viewers do: as if there were none."""
    with suppress(ImageCms.PyCMSError, OSError):
        if profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(source).lower():
                return ImageCms.profileToProfile(picture, source, SRGB, outputMode="RGB")
    return picture.convert("RGB")


def check_pictures(paths: Iterable[Path], background: str = "white") -> None:
    """Read each picture once. Raises ValueError, which names the first ``SHOWN`` that cannot be
    read and how many there are, and for no colour."""
    colour_of(background)
    Image.init()

    def found(path: Path) -> str | None:
        try:
            as_seen(path)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        every = list(pool.map(found, paths))
    if bad := [text for text in every if text]:
        more = [f"and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
        head = f"{len(bad)} of {len(every)} pictures cannot be read"
        raise ValueError("\n".join([head + ":", *bad[:SHOWN], *more]) if len(bad) > 1 else bad[0])
