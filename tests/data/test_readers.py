"""Nothing in a released file is ever run."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import UNET, save_tensors, tiny_unet

from abu.data.released import load_fisher, released
from abu.diffusion.unet import load_weights


class Bomb:
    """Pickled, it writes a file when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_code_in_a_released_file_is_run(tmp_path) -> None:
    sign, model, plain = (tmp_path / name for name in ("ran", "model.bin", "plain.bin"))
    with plain.open("wb") as file:
        pickle.dump({"weight": Bomb(sign)}, file)
    np.save(tmp_path / "latents.npy", np.array([Bomb(sign)], object))
    save_tensors(model, tiny_unet().state_dict() | {"more": Bomb(sign)})
    for path in (model, plain):
        with pytest.raises(ValueError, match="holds no tensors that can be read safely"):
            load_weights(path, UNET | {"cross_attention_dim": 128})
        with pytest.raises(ValueError, match="holds no tensors that can be read safely"):
            load_fisher(path, {})
    for name in ("latents.npy", "plain.bin"):
        with pytest.raises(ValueError, match=f"{name} holds no array that can be read safely"):
            released(tmp_path / name, tmp_path / name, [])
    assert not sign.exists()
    torch.load(model, weights_only=False)
    assert sign.exists(), "the file does what it should not, where it is let"
