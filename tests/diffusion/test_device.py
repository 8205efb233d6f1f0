"""A device is there, or is named."""

import pytest
import torch

from abu.diffusion.device import use_device


def test_a_device_that_is_not_there() -> None:
    threads = torch.get_num_threads()
    try:
        assert use_device("cpu").type == "cpu"
        with pytest.raises(RuntimeError, match="device 'cuda:77' is not there"):
            use_device("cuda:77")
    finally:
        torch.set_num_threads(threads)
