"""A device is there and can do what is asked, or is named."""

import pytest
import torch

from abu.diffusion.device import use_device


def test_a_device_that_is_not_there() -> None:
    threads = torch.get_num_threads()
    try:
        assert use_device("cpu").type == "cpu"
        with pytest.raises(RuntimeError, match="device 'cuda:77' is not there"):
            use_device("cuda:77")
        for name in ("mps", "mps:0"):
            with pytest.raises(ValueError, match=f"'{name}' has no float64; expected auto, cpu or"):
                use_device(name)
    finally:
        torch.set_num_threads(threads)
