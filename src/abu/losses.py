"""Per-example denoising loss under named noise."""

from collections.abc import Sequence

import torch

from abu.noise import normals
from abu.progress import track

Key = tuple[int | str, ...]


def target(scheduler, x0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """What the denoiser predicts: noise or velocity, as ``scheduler.config.prediction_type`` says."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return eps
    if kind == "v_prediction":
        return scheduler.get_velocity(x0, eps, t)
    raise ValueError(f"prediction_type is {kind!r}; expected 'epsilon' or 'v_prediction'")


def denoising_loss(unet, scheduler, x0, eps, t, text) -> torch.Tensor:
    """``mean_dims (eps_theta(x_t, t, c) - eps)^2`` of each row (or the same in v): float32 [B].

    ``x0``, ``eps``: [B, C, H, W]; ``t``: int64 [B]; ``text``: [B, L, D].
    """
    prediction = unet(scheduler.add_noise(x0, eps, t), t, encoder_hidden_states=text).sample
    return (prediction.float() - target(scheduler, x0, eps, t).float()).square().mean((1, 2, 3))


def check_timesteps(scheduler, timesteps: Sequence[int]) -> None:
    """Raise ValueError for an empty list or a timestep outside the scheduler's."""
    last = scheduler.config.num_train_timesteps - 1
    if not len(timesteps) or min(timesteps) < 0 or max(timesteps) > last:
        raise ValueError(f"timesteps are {list(timesteps)}; expected some within 0..{last}")


def check_finite(name: str, values: torch.Tensor) -> None:
    """Raise FloatingPointError where a value is not finite."""
    if bad := int((~torch.isfinite(values)).sum()):
        raise FloatingPointError(f"{name}: {bad} of {values.numel()} values are not finite")


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
) -> torch.Tensor:
    """Losses of the images ``ids`` under named noise: float32 [N, F, C, T] (image, flip, caption, timestep).

    ``latents``: [N, F, c, h, w], the image and, where F = 2, its mirror image; ``texts``: [N, C, L, D].
    The noise of an entry is named (seed, "loss", image id, caption, timestep): both flips meet the same noise,
    so that their maximum compares pictures, not draws. Raises FloatingPointError for a loss that is not finite.
    """
    check_timesteps(scheduler, timesteps)
    device = next(unet.parameters()).device
    n, flips = latents.shape[:2]
    captions = texts.shape[1]
    grid = torch.cartesian_prod(*map(torch.arange, (n, captions, len(timesteps), flips)))  # rows: (i, c, t, f)
    out = torch.empty(n, captions, len(timesteps), flips)
    steps = torch.as_tensor(timesteps)
    for rows in track(grid.split(batch_size), progress):
        i, c, t, f = rows.T
        keys = [(seed, "loss", ids[a], b, s) for a, b, s in zip(i.tolist(), c.tolist(), steps[t].tolist())]
        eps = normals(latents.shape[2:], keys)
        batch = (latents[i, f].float(), eps, steps[t], texts[i, c].float())
        out[i, c, t, f] = denoising_loss(unet, scheduler, *(x.to(device) for x in batch)).cpu()
    check_finite("losses", out)
    return out.permute(0, 3, 1, 2).contiguous()
