"""Named randomness: a draw depends on its name alone."""

import numpy as np
import torch

from abu.diffusion.noise import normal, normals, permutation, stream


def test_noise_depends_on_its_name_alone() -> None:
    one = normal((3, 4), 0, "loss", 7, 0, 100)
    several = normals((3, 4), [(0, "loss", 8, 0, 100), (0, "loss", 7, 0, 100)])
    assert torch.equal(one, several[1])
    for other in (
        (1, "loss", 7, 0, 100),
        (0, "train", 7, 0, 100),
        (0, "loss", 7, 100, 0),
        (0, "loss", "7", 0, 100),
    ):
        assert not torch.equal(one, normal((3, 4), *other))
    assert torch.equal(one, normal((3, 4), np.int64(0), "loss", np.int64(7), 0, 100))
    draws = normals((4096,), [("moments", i) for i in range(16)])
    assert abs(draws.mean()) < 0.02 and abs(draws.std() - 1) < 0.02
    assert abs(torch.corrcoef(draws) - torch.eye(16)).max() < 0.08
    assert sorted(permutation(9, "p")) == list(range(9))
    assert stream("a").random() == stream("a").random()
