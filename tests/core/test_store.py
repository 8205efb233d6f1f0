"""The store of gradients: it answers as a pass over the images does."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from abu.core.curvature import eigenbasis, factors, rotated_squares, summed
from abu.core.fisher import per_example
from abu.core.influence import gauss_newton
from abu.core.store import answer, convert, leading, project


@pytest.mark.parametrize("spread", [False, True])
def test_store_answers_as_the_pass_over_the_images_does(
    denoiser, images, grid, moves, spread: bool
) -> None:
    weights, grid = denoiser.weights, replace(grid, spread=spread)
    walk = lambda: per_example(replace(denoiser, batch_size=64), images, draws=3)
    cached = eigenbasis(summed(walk(), partial(factors, weights=weights)))
    sums = summed(walk(), partial(rotated_squares, weights=weights, basis=cached))
    cached |= {name: value / 15 for name, value in sums.items()}
    exact = gauss_newton(denoiser, moves, images, grid, 2)
    size = sum(denoiser.unet.get_parameter(name).numel() for name in weights)
    errors = []
    for dimension in (size, size // 2, size // 8):
        basis = leading(cached, weights, dimension)
        stored = project(replace(denoiser, batch_size=7), basis, images, grid, 2)
        assert (
            stored.shape == (5, 2, 1 if spread else 2, 3, 3, dimension)
            and stored.dtype == torch.float16
        )
        parts = answer(stored.numpy(), basis.of(moves), dims=4 * 8 * 8, chunk=2)
        terms = zip((torch.cat(parts, 1) for parts in zip(*parts)), exact)
        errors.append([float((a - b).abs().mean() / b.abs().mean()) for a, b in terms])
    assert max(errors[0]) < 5e-3  # all coordinates: float16 alone is lost
    assert errors[0] < errors[1] < errors[2]
    values = {name: cached[f"{name}.values"].flatten() for name in weights}
    kept = torch.cat([values[name][place] for name, place in basis.places.items()])
    largest = torch.cat(list(values.values())).sort().values[-len(kept) :]
    torch.testing.assert_close(kept.sort().values, largest)
    for count in (1, len(kept) // 2, len(kept)):
        first = basis.first(count).bool()
        assert int(first.sum()) == count and set(kept[first].tolist()) >= set(
            kept.sort().values[-count:].tolist()
        )


def test_what_cannot_be_stored_is_refused() -> None:
    with pytest.raises(KeyError, match="no ekfac curvature"):
        leading({}, ["w"], 4)
    with pytest.raises(FloatingPointError, match="stored coordinates"):
        convert(torch.tensor([1e9]))
