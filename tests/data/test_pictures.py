"""Pictures of every kind: shown as a viewer shows them, or refused by name."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

from abu.data import pictures
from abu.data.pictures import as_seen, check_pictures, read_image

RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (255,) * 3, (0,) * 3
array = lambda rows, kind: Image.fromarray(np.array(rows, kind))


def save(path: Path, image: Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def png(path: Path, depth: int, kind: int, row: bytes, clear: bytes) -> Path:
    """A PNG of one row of two pixels, with a clear colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", 2, 1, depth, kind, 0, 0, 0)
    parts = {b"IHDR": head, b"tRNS": clear, b"IDAT": zlib.compress(b"\0" + row), b"IEND": b""}
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, parts, parts.values())))
    return path


def seen(path: Path, background: str = "white") -> list[tuple]:
    """Colours of a picture, row by row."""
    return [tuple(pixel) for pixel in np.asarray(as_seen(path, background)).reshape(-1, 3).tolist()]


def two(mode: str = "RGB", left=RED, right=GREEN, size: int = 1) -> Image.Image:
    """A picture of two colours, side by side."""
    image = Image.new(mode, (2 * size, size), left)
    image.paste(right, (size, 0, 2 * size, size))
    return image


def test_eight_bits_of_rgb_are_read_as_they_are(tmp_path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    read = read_image(save(tmp_path / "a.png", Image.fromarray(values)), 16)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_a_picture_that_lies_on_its_side_stands_up(tmp_path, suffix: str) -> None:
    upright = Image.new("RGB", (16, 32), "white")
    ImageDraw.Draw(upright).rectangle((0, 0, 15, 15), "red")  # above
    turns = {3: 180, 6: 90, 8: 270}  # how a camera that was held so stored it
    for orientation, turn in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        lying = upright.rotate(turn, expand=True)
        path = save(tmp_path / f"{orientation}.{suffix}", lying, exif=exif, quality=100)
        found = np.asarray(as_seen(path)).astype(int)
        assert found.shape == (32, 16, 3)
        assert np.abs(found[4, 8] - RED).max() < 12 and np.abs(found[27, 8] - WHITE).max() < 12


def test_what_is_transparent_shows_the_background(tmp_path) -> None:
    clear = two("RGBA", (255, 0, 0, 0), (0, 255, 0, 255))
    palette = two("P", 0, 1)
    palette.putpalette([*RED, *GREEN])
    files = {
        "rgba": save(tmp_path / "rgba.png", clear),
        "webp": save(tmp_path / "a.webp", clear, lossless=True, exact=True),
        "one clear entry": save(tmp_path / "p.png", palette, transparency=0),
        "alpha by entry": save(tmp_path / "q.png", palette, transparency=b"\x00\xff"),
        "gif": save(tmp_path / "a.gif", palette, transparency=0),
        "clear colour": png(tmp_path / "t.png", 8, 2, bytes([*RED, *GREEN]), b"\0\xff\0\0\0\0"),
    }
    for name, path in files.items():
        assert seen(path) == [WHITE, GREEN], name
        assert seen(path, "#000080") == [(0, 0, 128), GREEN], name
    grey = save(tmp_path / "la.png", two("LA", (10, 0), (10, 255)))
    assert seen(grey) == [WHITE, (10,) * 3] and seen(grey, "blue") == [(0, 0, 255), (10,) * 3]
    half = save(tmp_path / "half.png", Image.new("RGBA", (1, 1), (255, 0, 0, 102)))
    assert seen(half) == [(255, 153, 153)]
    assert read_image(files["rgba"], 1, "blue").ravel().tolist() == [-1, -1, 1]


def test_clear_colours_of_few_and_many_bits(tmp_path) -> None:
    grey = {1: (b"\x40", 1, [BLACK, None]), 2: (b"\x60", 1, [None, (170,) * 3])}
    grey[4] = (b"\x3f", 3, [None, WHITE])
    grey[16] = (struct.pack(">HH", 0x1234, 0x1235), 0x1234, [None, (0x12,) * 3])
    for depth, (row, clear, expected) in grey.items():
        path = png(tmp_path / f"{depth}.png", depth, 0, row, struct.pack(">H", clear))
        assert seen(path, "red") == [colour or RED for colour in expected], depth
    row = struct.pack(">6H", 0x1234, 0, 0, 0x5678, 0, 0)
    deep = png(tmp_path / "rgb.png", 16, 2, row, struct.pack(">3H", 0x1234, 0, 0))
    assert seen(deep) == [WHITE, (0x56, 0, 0)]


def test_sixteen_bits_keep_their_greys(tmp_path) -> None:
    deep, expected = [[0, 0x1234, 0x8000, 0xFFFF]], [(v,) * 3 for v in (0, 0x12, 0x80, 255)]
    image = array(deep, np.uint16)
    for name in ("a.png", "a.tif", "a.jp2"):
        assert seen(save(tmp_path / name, image)) == expected
    (tmp_path / "a.pgm").write_bytes(b"P5 4 1 65535\n" + np.array(deep, ">u2").tobytes())
    assert seen(tmp_path / "a.pgm") == expected
    inverse = array(65535 - np.array(deep), np.uint16)
    path = save(tmp_path / "inverse.tif", inverse, tiffinfo={262: 0})
    assert Image.open(path).tag_v2[262] == 0 and seen(path) == expected


@pytest.mark.parametrize(
    "name, image, expected",
    [
        ("a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), RED),
        ("a.tif", Image.new("YCbCr", (8, 8), (76, 85, 255)), (254, 0, 0)),
        ("b.tif", Image.new("LAB", (8, 8), (138, 209, 198)), (255, 0, 0)),
        ("a.png", Image.new("1", (8, 8), 1), WHITE),
        ("b.png", Image.new("L", (8, 8), 77), (77,) * 3),
        ("a.bmp", Image.new("RGB", (8, 8), GREEN), GREEN),
    ],
)
def test_other_modes(tmp_path, name: str, image: Image.Image, expected: tuple) -> None:
    assert np.abs(np.subtract(seen(save(tmp_path / name, image))[0], expected)).max() <= 6


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_the_first_frame_is_taken(tmp_path, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    path = save(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], lossless=True)
    assert Image.open(path).n_frames == 2 and seen(path)[0] == RED


def test_colours_are_those_of_the_profile(tmp_path) -> None:
    grey = Image.new("RGB", (1, 1), (128, 128, 128))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = save(tmp_path / "srgb.png", grey, icc_profile=srgb)
    assert seen(plain) == [(128,) * 3]
    linear = save(tmp_path / "linear.png", grey, icc_profile=linear_profile())
    expected = round(255 * (1.055 * (128 / 255) ** (1 / 2.4) - 0.055))  # light as it is, in sRGB
    assert np.abs(np.subtract(seen(linear)[0], expected)).max() <= 2
    clear = save(tmp_path / "clear.png", grey.convert("RGBA"), icc_profile=linear_profile())
    assert seen(clear) == seen(linear)
    broken = save(tmp_path / "broken.png", grey, icc_profile=b"no profile")
    other = save(tmp_path / "other.png", grey.convert("L"), icc_profile=linear_profile())
    assert seen(broken) == seen(other) == [(128,) * 3]


def linear_profile() -> bytes:
    """sRGB's profile, but for its curves: light in proportion to the number."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    for entry in range(132, 132 + 12 * count, 12):
        name, at, _ = struct.unpack(">4sII", data[entry : entry + 12])
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            data[at + 8 : at + 10], data[at + 12 : at + 16] = b"\0\0", struct.pack(">I", 1 << 16)
        if name == b"desc":
            data[:] = data.replace("sRGB".encode("utf-16-be"), "line".encode("utf-16-be"))
    return bytes(data)


def test_names_are_of_any_kind(tmp_path) -> None:
    for name in ("ünï/日本 语.PNG", "a/b/c.JPG", "it's 100%.jpeg", "no suffix"):
        path = save(tmp_path / name, Image.new("RGB", (8, 8), RED), format="PNG")
        assert seen(path)[0] == RED


@pytest.mark.parametrize(
    "name, image, error",
    [
        ("a.tif", array([[0, 70000]], np.int32), "mode I .*expected 8 or 16 bits a channel"),
        ("b.tif", array([[0, 0.5, 1]], np.float32), "mode F .*expected 8 or 16 bits a channel"),
    ],
)
def test_pixels_without_an_agreed_white_are_refused(tmp_path, name, image, error) -> None:
    with pytest.raises(ValueError, match=f"{name} is not a readable image: its pixels .*{error}"):
        as_seen(save(tmp_path / name, image))


def test_twelve_bits_are_refused(tmp_path) -> None:
    path = save(tmp_path / "a.tif", array([[0, 4095]] * 8, np.uint16))
    content = bytearray(path.read_bytes())
    bits = content.find(struct.pack("<HHI", 258, 3, 1)) + 8  # the value of BitsPerSample
    content[bits : bits + 2] = struct.pack("<H", 12)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.tif is not a readable image: .*I;12.*expected 8 or 16"):
        as_seen(path)


def spoilt(folder: Path) -> dict[str, str]:
    """Files that cannot be read, and what is said of them."""
    whole = save(folder / "torn.png", Image.effect_noise((64, 64), 90).convert("RGB"))
    whole.write_bytes(whole.read_bytes()[:-200])
    (folder / "empty.png").touch()
    (folder / "none.png").write_text("none")
    (folder / "a.heic").write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(12) + bytes(64))
    text = PngImagePlugin.PngInfo()
    text.add_text("key", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    save(folder / "text.png", two(), pnginfo=text)
    return {
        "torn.png": "truncated",
        "empty.png": "the file is empty",
        "none.png": "cannot identify image file.*expected a picture that Pillow reads",
        "a.heic": r"HEIC or its kin.* pillow-heif reads: pip install 'abu\[heic\]'",
        "text.png": "[Dd]ecompressed data too large",
        "gone.png": "No such file",
    }


def test_files_that_are_no_pictures_are_refused_by_name(tmp_path, monkeypatch) -> None:
    for name, error in spoilt(tmp_path).items():
        with pytest.raises(ValueError, match=f"{name} is not a readable image: .*{error}"):
            read_image(tmp_path / name, 16)
    large = save(tmp_path / "large.png", Image.new("1", (300, 300)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="large.png is not a readable image: .*90000 pixels"):
        read_image(large, 16)


def test_avif_is_read_or_explained(tmp_path, monkeypatch) -> None:
    from PIL import features

    path = tmp_path / "a.avif"
    path.write_bytes(struct.pack(">I", 24) + b"ftypavif" + bytes(12))
    if features.check("avif"):
        save(path, Image.new("RGB", (16, 16), RED), quality=100)
        assert np.abs(np.subtract(seen(path)[0], RED)).max() < 12
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "AVIF"])
    with pytest.raises(ValueError, match="a.avif is not a readable image: AVIF, .* from 11.3 on"):
        as_seen(path)


def test_every_bad_picture_is_named_at_once(tmp_path) -> None:
    good = [save(tmp_path / f"{i}.png", two()) for i in range(3)]
    check_pictures(good)
    names = spoilt(tmp_path)
    with pytest.raises(ValueError, match="^6 of 9 pictures cannot be read:") as raised:
        check_pictures([*good, *(tmp_path / name for name in names)])
    assert all(f"{name} is not a readable image" in str(raised.value) for name in names)
    with pytest.raises(ValueError, match="^.*none.png is not a readable image"):
        check_pictures([*good, tmp_path / "none.png"])
    with pytest.raises(ValueError, match="and 5 more$") as raised:
        check_pictures([tmp_path / "none.png"] * 25)
    assert str(raised.value).count("none.png is not") == pictures.SHOWN == 20


@pytest.mark.parametrize("background", ["whit", "#ffffff80", None, 3])
def test_a_background_is_a_colour(tmp_path, background) -> None:
    path = save(tmp_path / "a.png", two())
    for call in (lambda: as_seen(path, background), lambda: check_pictures([path], background)):
        with pytest.raises(ValueError, match=f"background is {background!r}; expected a colour"):
            call()
