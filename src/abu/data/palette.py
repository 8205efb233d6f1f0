"""Pictures in few colours, so that a page of them stays small."""

import io

from PIL import Image

COLOURS = (256, 128, 64, 32)
"""Of a picture's palette, the most first."""
REFINED = 2  # by k-means, until so many pixels change: median cut alone leaves faces in patches


def palette(png: bytes, colours: int = COLOURS[0]) -> bytes:
    """A PNG picture on white, with a palette of at most so many colours: a third of its size. Equal
    inputs give equal bytes; one that has such a palette is returned as it is."""
    picture = Image.open(io.BytesIO(png))
    if picture.mode == "P" and len(picture.getcolors()) <= colours:
        return png
    opaque = Image.new("RGBA", picture.size, "white")
    opaque.alpha_composite(picture.convert("RGBA"))
    few = opaque.convert("RGB").quantize(
        colours, Image.Quantize.MEDIANCUT, kmeans=REFINED, dither=Image.Dither.NONE
    )
    file = io.BytesIO()
    few.save(file, "PNG", optimize=True)
    return file.getvalue()
