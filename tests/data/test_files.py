"""Files are whole or not there; manifests name what differs."""

import json

import numpy as np
import pytest
import torch

from abu.data.files import write_array, write_atomically, write_parts
from abu.data.manifest import check_manifest, fingerprint


def test_manifests_name_the_field_that_differs(tmp_path) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"ids": [1, 2], "seed": 0}))
    assert check_manifest(tmp_path / "m.json", {"seed": 0})["ids"] == [1, 2]
    with pytest.raises(ValueError, match="seed is 0; expected 1"):
        check_manifest(tmp_path / "m.json", {"ids": [1, 2], "seed": 1})
    with pytest.raises(ValueError, match="model is null"):
        check_manifest(tmp_path / "m.json", {"model": "x"})


def test_writes_are_whole_or_not_at_all(tmp_path) -> None:
    def fail(file):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.npy"
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fail)
    assert not list(tmp_path.iterdir())
    write_array(path, np.arange(3))
    assert np.load(path).tolist() == [0, 1, 2] and len(list(tmp_path.iterdir())) == 1
    assert fingerprint(path, {"b": 1, "a": 2}) == fingerprint(path, {"a": 2, "b": 1})


def test_a_file_of_parts_is_whole_or_not_there(tmp_path) -> None:
    parts = torch.arange(10.0).reshape(5, 2)
    write_parts(tmp_path / "whole.npy", (5, 2), "float16", iter([parts[:2], parts[2:]]))
    assert np.load(tmp_path / "whole.npy").tolist() == parts.tolist()
    with pytest.raises(ValueError, match="2 rows came; expected 5"):
        write_parts(tmp_path / "short.npy", (5, 2), "float16", iter([parts[:2]]))
    assert [file.name for file in tmp_path.iterdir()] == ["whole.npy"]
