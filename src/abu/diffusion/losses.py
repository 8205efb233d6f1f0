"""Per-example denoising loss under named noise."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from abu.data.checks import check_finite
from abu.data.progress import track
from abu.diffusion.attention import share_text
from abu.diffusion.noise import normals
from abu.diffusion.prefetch import prefetch

Key = tuple[int | str, ...]


def target(scheduler, x0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """What the denoiser predicts: noise or velocity, as ``scheduler.config.prediction_type`` says."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return eps
    if kind == "v_prediction":
        return scheduler.get_velocity(x0, eps, t)
    raise ValueError(f"prediction_type is {kind!r}; expected 'epsilon' or 'v_prediction'")


def denoising_loss(
    unet, scheduler, x0, eps, t, text, region: torch.Tensor | None = None
) -> torch.Tensor:
    """``mean_dims (eps_theta(x_t, t, c) - eps)^2`` of each row (or the same in v): float32 [B].

    ``x0``, ``eps``: [B, C, H, W]; ``t``: int64 [B]; ``text``: [B, L, D], or, for a U-Net that shares text, one for every so
    many rows. With a ``region`` [H, W] of weights the mean over places is weighted by them (``abu.core.regions``).
    """
    prediction = unet(scheduler.add_noise(x0, eps, t), t, encoder_hidden_states=text).sample
    errors = (prediction.float() - target(scheduler, x0, eps, t).float()).square()
    return (
        errors.mean((1, 2, 3))
        if region is None
        else (errors.mean(1) * (region / region.sum())).sum((1, 2))
    )


def check_timesteps(scheduler, timesteps: Sequence[int]) -> None:
    """Raise ValueError for an empty list or a timestep outside the scheduler's."""
    last = scheduler.config.num_train_timesteps - 1
    if not len(timesteps) or min(timesteps) < 0 or max(timesteps) > last:
        raise ValueError(f"timesteps are {list(timesteps)}; expected some within 0..{last}")


def named_batches(
    latents: torch.Tensor,
    texts: torch.Tensor,
    ids: Sequence[int | str],
    timesteps: Sequence[int],
    seed: int,
    batch_size: int,
    spread: bool = False,
) -> list[Callable]:
    """Batches of all entries (image, caption, timestep, flip), caption-major, each to be drawn when it is called.

    Each gives places (i, c, t, f), int64 [B] each, and x0, eps [B, c, h, w], t [B], and one text a caption, [B', L, D]. The
    noise of an entry is named (seed, "loss", image id, caption, timestep), the same for both flips. With ``spread`` each timestep
    has one caption, in turn, in place of all.
    """
    steps, captions = torch.as_tensor(timesteps), texts.shape[1]
    grid = torch.cartesian_prod(torch.arange(len(latents)), torch.arange(captions))
    own = torch.cartesian_prod(
        torch.arange(len(steps)), torch.arange(latents.shape[1])
    )  # of a caption: (t, f)
    groups = [(grid, own)]
    if spread:
        groups = [
            (grid[grid[:, 1] == c], own[own[:, 0] % captions == c])
            for c in range(min(captions, len(steps)))
        ]

    def draw(pairs: torch.Tensor, part: torch.Tensor):
        i, c = pairs.repeat_interleave(len(part), 0).T
        t, f = part.repeat(len(pairs), 1).T
        keys = [
            (seed, "loss", ids[a], b, s)
            for a, b, s in zip(i.tolist(), c.tolist(), steps[t].tolist())
        ]
        text = texts[pairs[:, 0], pairs[:, 1]].float()
        return (i, c, t, f), (
            latents[i, f].float(),
            normals(latents.shape[2:], keys),
            steps[t],
            text,
        )

    return [
        partial(draw, pairs, part)
        for grid, own in groups
        for pairs in grid.split(max(1, batch_size // len(own)))
        for part in own.split(min(len(own), batch_size))
    ]


@torch.no_grad()
def loss_table(
    unet,
    scheduler,
    latents: torch.Tensor,
    texts: torch.Tensor,
    ids: Sequence[int | str],
    timesteps: Sequence[int],
    seed: int = 0,
    batch_size: int = 128,
    progress: str = "",
    spread: bool = False,
) -> torch.Tensor:
    """Losses of the images ``ids`` under named noise: float32 [N, F, C, T] (image, flip, caption, timestep).

    With ``spread``, timestep number j meets caption j mod C alone, and the answer is [N, F, 1, T]: a C-th of the cost.

    ``latents``: [N, F, c, h, w], the image and, where F = 2, its mirror image; ``texts``: [N, C, L, D].
    Noise as in ``named_batches``: both flips meet the same, so that their maximum compares pictures, not draws. A caption's
    keys and values are projected once a batch. Raises FloatingPointError for a loss that is not finite.
    """
    check_timesteps(scheduler, timesteps)
    device = next(share_text(unet).parameters()).device
    batches = named_batches(latents, texts, ids, timesteps, seed, batch_size, spread)
    out = torch.empty(
        len(latents), 1 if spread else texts.shape[1], len(timesteps), latents.shape[1]
    )
    places, values = [], []
    for (i, c, t, f), batch in track(prefetch(batches, device), progress, len(batches)):
        places.append(
            ((i * out.shape[1] + (0 if spread else c)) * out.shape[2] + t) * out.shape[3] + f
        )
        values.append(denoising_loss(unet, scheduler, *batch))
    out.view(-1)[torch.cat(places)] = torch.cat(values).cpu()
    check_finite("losses", out)
    return out.permute(0, 3, 1, 2).contiguous()
