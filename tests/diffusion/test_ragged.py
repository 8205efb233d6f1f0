"""Images that differ in captions: each meets its own alone, and means are over its own."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import IDS, TIMESTEPS

from abu.core.curvature import eigenbasis, factors, rotated_squares, summed
from abu.core.fisher import draw_batch, fisher_diagonal, per_example
from abu.core.influence import forward_mode, gauss_newton, means
from abu.core.store import answer, leading, project
from abu.core.unlearn import score
from abu.data.images import Images, at_most, captions_of
from abu.diffusion.grid import Grid, batches
from abu.diffusion.losses import loss_table
from abu.diffusion.train import Recipe, batch

COUNTS = [3, 1, 2, 3, 1]


@pytest.fixture
def ragged(images: Images) -> Images:
    """Five images with one to three captions; places of those that they lack are not numbers."""
    texts = torch.cat([images.texts, images.texts[:, :1].flip(2)], 1)
    for row, count in enumerate(COUNTS):
        texts[row, count:] = torch.nan
    return replace(images, texts=texts, counts=torch.tensor(COUNTS))


def alone(images: Images, row: int) -> Images:
    """One image with its own captions, as a data set of its own."""
    part, count = images[[row]], captions_of(images, row)
    return Images(part.ids, part.latents, part.texts[:, :count])


def test_counts_are_of_the_chosen_images_and_captions(ragged) -> None:
    assert ragged[[2, 0]].counts.tolist() == [2, 3] and ragged[1:3].counts.tolist() == [1, 2]
    assert Grid([1], captions=2).of(ragged).counts.tolist() == [2, 1, 2, 2, 1]
    assert Grid([1], captions=1).of(ragged).counts is None
    assert at_most(torch.tensor([3, 3]), 3) is None and at_most(None, 3) is None


@pytest.mark.parametrize("captions", [None, 1, 2])
@pytest.mark.parametrize("flips", [True, False])
def test_losses_are_those_of_each_image_alone(denoiser, ragged, captions, flips) -> None:
    grid = Grid(TIMESTEPS, captions=captions, flips=flips)
    table = loss_table(denoiser, ragged, grid)
    assert tuple(table.shape) == grid.shape(ragged) == (5, 1 + flips, captions or 3, 3)
    for row in range(len(ragged)):
        own = loss_table(denoiser, alone(ragged, row), grid)[0]
        torch.testing.assert_close(table[row, :, : own.shape[1]], own, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(table[row].mean(1), own.mean(1), rtol=1e-5, atol=1e-6)


def test_a_score_is_the_mean_over_the_captions_that_an_image_has(denoiser, ragged) -> None:
    grid = Grid(TIMESTEPS)
    tables = [loss_table(denoiser, ragged, replace(grid, seed=seed)) for seed in (0, 1)]
    for row in range(len(ragged)):
        own = [loss_table(denoiser, alone(ragged, row), replace(grid, seed=s)) for s in (0, 1)]
        assert score(*tables)[row] == pytest.approx(score(*own)[0].item(), rel=1e-4, abs=1e-6)


def test_spread_captions_take_turns_among_those_that_an_image_has(denoiser, ragged) -> None:
    grid = Grid([10, 100, 300, 600, 999], spread=True)
    met = [torch.stack(draw()[0]) for draw in batches(ragged, grid, 4)]
    i, c, t, _ = torch.cat(met, 1)
    assert torch.equal(c, t % torch.tensor(COUNTS)[i]) and len(i) == 5 * 5 * 2
    table = loss_table(denoiser, ragged, grid)
    for row in range(len(ragged)):
        own = loss_table(denoiser, alone(ragged, row), grid)
        torch.testing.assert_close(table[[row]], own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("some", [[1, 3], [2], [0, 1, 2, 3, 4], [4, 0]])
def test_a_part_of_a_grid_is_entries_of_the_whole(denoiser, ragged, spread, some) -> None:
    grid = Grid([10, 100, 300, 600, 999], spread=spread)
    whole = loss_table(denoiser, ragged, grid)
    part = loss_table(replace(denoiser, batch_size=5), ragged, grid.part(some))
    torch.testing.assert_close(part, whole[..., some], rtol=1e-5, atol=1e-6)
    again = loss_table(denoiser, ragged, grid.part(some).part([0]))
    torch.testing.assert_close(again, whole[..., some[:1]], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="1 turns for 5 timesteps; expected as many"):
        replace(grid, turns=[0])


def test_equal_counts_change_no_byte(denoiser, images) -> None:
    equal = replace(images, counts=torch.tensor([2] * len(IDS)))
    for grid in (Grid(TIMESTEPS), Grid(TIMESTEPS, spread=True), Grid(TIMESTEPS, captions=1)):
        assert torch.equal(loss_table(denoiser, equal, grid), loss_table(denoiser, images, grid))
    rows = [(i, k) for i in range(len(IDS)) for k in range(4)]
    pairs = zip(*(draw_batch(denoiser.scheduler, z, rows, 0)[1] for z in (equal, images)))
    assert all(torch.equal(*pair) for pair in pairs)


def test_fisher_draws_are_among_the_captions_that_an_image_has(denoiser, ragged) -> None:
    rows = [(i, k) for i in range(len(ragged)) for k in range(40)]
    text = draw_batch(denoiser.scheduler, ragged, rows, 0)[1][3].reshape(5, 40, -1)
    assert text.isfinite().all()
    assert [len(text[i].unique(dim=0)) for i in range(5)] == COUNTS
    fisher = fisher_diagonal(denoiser, ragged, 2)
    assert all(value.isfinite().all() for value in fisher.values())


def test_training_draws_are_among_the_captions_that_an_image_has(ragged, scheduler) -> None:
    data = type("Data", (), {**vars(ragged), "empty": torch.zeros(6, 8)})
    rows, recipe = (
        [(i, k) for i in range(5) for k in range(40)],
        Recipe({}, 1, 1, 1, 1, caption_dropout=0),
    )
    text = batch(data, scheduler, rows, 0, recipe)[3].reshape(5, 40, -1)
    assert [len(text[i].unique(dim=0)) for i in range(5)] == COUNTS and text.isfinite().all()


def test_influence_and_store_are_means_over_the_captions_of_each(denoiser, ragged, moves) -> None:
    grid, move = Grid(TIMESTEPS), {name: value[0] for name, value in moves.items()}
    whole = means([gauss_newton(denoiser, moves, ragged, grid, 2)])[0]
    exact = [term.mean((2, 3)) for term in forward_mode(denoiser, move, ragged, grid)]
    walk, weights = partial(per_example, denoiser, ragged, 2), denoiser.weights
    cached = eigenbasis(summed(walk(), partial(factors, weights=weights)))
    cached |= summed(walk(), partial(rotated_squares, weights=weights, basis=cached))
    basis, dims = leading(cached, weights, 64), ragged.latents[0, 0].numel()
    stored = project(denoiser, basis, ragged, grid, 2)
    kept = means(answer(stored, basis.of(moves), dims))[0]
    for row in range(len(ragged)):
        own = alone(ragged, row)
        expected = means([gauss_newton(denoiser, moves, own, grid, 2)])[0]
        torch.testing.assert_close(whole[:, :, [row]], expected, rtol=1e-4, atol=1e-7)
        for term, one in zip(exact, forward_mode(denoiser, move, own, grid)):
            torch.testing.assert_close(term[[row]], one.mean((2, 3)), rtol=1e-4, atol=1e-7)
        one = means(answer(project(denoiser, basis, own, grid, 2), basis.of(moves), dims))[0]
        torch.testing.assert_close(kept[:, :, [row]], one, rtol=5e-3, atol=1e-5)
