"""Encoded pictures and captions on disk."""

from dataclasses import replace

import pytest
import torch

from abu.data.pictures import read_image
from abu.data.prepared import Prepared
from abu.diffusion.encode import prepare


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
