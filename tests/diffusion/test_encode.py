"""Encoded pictures and captions on disk."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from abu.data.pictures import read_image
from abu.data.prepared import Prepared
from abu.diffusion.encode import cut, prepare


def test_autoencoder_and_text_states(components, prepared, records) -> None:
    latents, texts = prepared.latents[:, 0], prepared.texts
    pixels = torch.stack([torch.from_numpy(read_image(r.path, 64)) for r in records])
    assert (components.decode(latents) * 2 - 1 - pixels).abs().mean() < 0.12
    assert 0.7 < latents.std() < 1.3
    assert texts[:, 0].square().mean().sqrt() == pytest.approx(1, abs=0.1)
    expected = components.texts(list(records[2].captions))
    torch.testing.assert_close(texts[[2] * 5, range(5)], expected, rtol=1e-5, atol=1e-5)


def test_token_states_on_the_fly_equal_the_stored_ones(
    tmp_path, components, records, prepared
) -> None:
    prepare(records, components, tmp_path, 64, "on-the-fly")
    lazy, texts = Prepared(tmp_path, components.states).texts, prepared.texts
    assert lazy.shape == tuple(texts.shape)
    several = lazy[torch.tensor([4, 1]), torch.tensor([0, 3])]
    torch.testing.assert_close(several, texts[[4, 1], [0, 3]], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(lazy[2, 1], texts[2, 1], rtol=1e-4, atol=1e-4)


def test_prepare_leaves_nothing_half_written(tmp_path, components, records) -> None:
    out = tmp_path / "out"
    out.mkdir()
    broken = [*records[:2], replace(records[2], path=tmp_path / "no.png")]
    with pytest.raises(ValueError, match="not a readable image"):
        prepare(broken, components, out, 64, "float16")
    assert not list(out.iterdir())
    with pytest.raises(ValueError, match="token_states is 'float8'"):
        prepare(records, components, tmp_path, 64, "float8")


@pytest.mark.parametrize("token_states", ["float16", "float32", "on-the-fly"])
def test_images_keep_the_captions_that_they_have(
    tmp_path, components, records, prepared, token_states: str
) -> None:
    counts = [2, 1, 5]
    some = [replace(r, captions=r.captions[:k]) for r, k in zip(records, counts)]
    prepare(some, components, tmp_path, 64, token_states)
    data = Prepared(tmp_path, components.states)
    assert data.counts.tolist() == counts and data.texts.shape[:2] == (3, 5)
    assert data.manifest["captions"] == 5 and prepared.counts is None
    tolerance = {"rtol": 1e-3, "atol": 2e-3} if token_states == "float16" else {}
    for row, count in enumerate(counts):
        own = data.texts[[row] * count, range(count)]
        torch.testing.assert_close(own, prepared.texts[[row] * count, range(count)], **tolerance)
    stored = np.load(tmp_path / "texts.npy")
    unused = stored[0, 2:], stored[1, 1:]
    assert all(
        (x == -1).all() if token_states == "on-the-fly" else np.isnan(x).all() for x in unused
    )
    assert len(np.unique(np.load(tmp_path / "latents.npy"), axis=0)) == 3


def test_every_picture_is_checked_before_one_is_encoded(tmp_path, components, records) -> None:
    (tmp_path / "none.png").touch()
    broken = [replace(r, path=tmp_path / name) for r, name in zip(records, ("none.png", "no.png"))]
    out = tmp_path / "out"
    out.mkdir()
    blind = replace(components, vae=SimpleNamespace(config=components.vae.config))  # encodes none
    with pytest.raises(ValueError, match="2 of 11 pictures cannot be read") as raised:
        prepare([*broken, *records], blind, out, 64, "float16")
    assert "none.png is not" in str(raised.value) and "no.png is not" in str(raised.value)
    assert not list(out.iterdir())


def test_the_background_reaches_the_latents(tmp_path, components, records) -> None:
    path = tmp_path / "clear.png"
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(path)
    clear = [replace(records[0], path=path)]
    for colour in ("white", "navy"):
        out = tmp_path / colour
        out.mkdir()
        prepare(clear, components, out, 64, "float16", background=colour)
        data = Prepared(out)
        pixels = torch.from_numpy(read_image(path, 64, colour))
        plain = Image.new("RGB", (1, 1), colour).getpixel((0, 0))
        assert (pixels[:, 0, 0] * 127.5 + 127.5).tolist() == pytest.approx(plain)
        expected = components.encode(torch.stack([pixels, pixels]))
        assert torch.equal(data.latents[[0, 0], [0, 1]], expected) and data.background == colour
    with pytest.raises(ValueError, match="background is 'whit'; expected a colour"):
        prepare(clear, components, tmp_path, 64, "float16", background="whit")


def test_captions_that_the_tokenizer_cuts_are_named(components, records) -> None:
    assert cut(records, components) == []
    long = "skull " * 22 + "one"  # with both ends as many tokens as are taken, and one more
    some = replace(records[1], captions=("short", long[: -len(" one")], long, long + " two"))
    assert torch.equal(*components.tokens([long, long + " two"])), "both become one"
    assert cut([records[0], some], components) == [(some.id, c) for c in some.captions[2:]]
