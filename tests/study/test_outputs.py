"""What an executed notebook keeps of its outputs."""

import base64
import io

import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from abu.data.palette import COLOURS, palette
from abu.diffusion.noise import stream
from abu.study.outputs import lightened, normalised, size


def png(side: int, *key) -> bytes:
    """A smooth picture in many colours, with some noise."""
    small = stream("png", *key).random((8, 8, 3))
    picture = Image.fromarray((255 * small).astype(np.uint8)).resize((side, side))
    file = io.BytesIO()
    picture.convert("RGBA").save(file, "PNG")
    return file.getvalue()


def notebook(*pictures: bytes):
    outputs = [
        new_output("display_data", {"image/png": base64.b64encode(one).decode()})
        for one in pictures
    ]
    return new_notebook(cells=[new_code_cell(outputs=outputs)])


def shown(notebook) -> list[bytes]:
    outputs = notebook.cells[0].outputs
    return [base64.b64decode(one.data["image/png"]) for one in outputs]


def test_a_palette_makes_a_picture_small_and_leaves_it_alike() -> None:
    before = png(256)
    after = palette(before)
    assert after == palette(before) and palette(after) == after
    assert len(after) < 0.5 * len(before)
    given, kept = (
        np.asarray(Image.open(io.BytesIO(one)).convert("RGB"), float) for one in (before, after)
    )
    assert given.shape == kept.shape and np.abs(given - kept).mean() < 8
    assert len(Image.open(io.BytesIO(palette(before, 32))).getcolors()) <= 32


def test_what_is_clear_becomes_white() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(file, "PNG")
    assert Image.open(io.BytesIO(palette(file.getvalue()))).convert("RGB").getpixel((0, 0)) == (
        255,
        255,
        255,
    )


def test_a_notebook_has_as_many_colours_as_fit() -> None:
    given = notebook(png(200, 1), png(200, 2))
    before = nbformat.writes(given)
    light = lightened(given)
    assert shown(light) == [palette(one) for one in shown(given)]
    assert nbformat.writes(given) == before and lightened(light) == light
    tight = lightened(given, size(light) - 1)
    assert shown(tight) == [palette(one, COLOURS[1]) for one in shown(given)]
    assert shown(lightened(given, 0)) == [palette(one, COLOURS[-1]) for one in shown(given)]


def test_an_early_end_leaves_no_trace() -> None:
    ended, failed = (
        new_output("error", ename=name, evalue="", traceback=[])
        for name in ("SystemExit", "KeyError")
    )
    told = new_output("stream", name="stdout", text="ends here")
    cell = new_code_cell(outputs=[told, ended, failed])
    assert normalised(new_notebook(cells=[cell])).cells[0].outputs == [told, failed]
