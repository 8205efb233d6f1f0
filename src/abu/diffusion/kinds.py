"""What a model from elsewhere predicts, by its losses: its config may be silent or wrong about
it."""

import torch

from abu.data.images import Images
from abu.data.rows import some
from abu.diffusion.attention import share_text
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid, batches

PICTURES, TIMES = 4, 10  # that are asked about; of each timestep one named noise


@torch.no_grad()
def losses_by_kind(denoiser: Denoiser, images: Images, seed: int = 0) -> dict[str, float]:
    """Mean squared error of one prediction, held for noise, for velocity and for the latents
    themselves, of a few evenly spread images and timesteps under named noise."""
    unet, scheduler = share_text(denoiser.model()), denoiser.scheduler
    last = scheduler.config.num_train_timesteps
    times = [(2 * i + 1) * last // (2 * TIMES) for i in range(TIMES)]
    grid = Grid(times, seed, captions=1, flips=False)
    few, device = images[some(len(images), PICTURES).tolist()], next(unet.parameters()).device
    errors: dict[str, list[torch.Tensor]] = {"epsilon": [], "v_prediction": [], "sample": []}
    for draw in batches(few, grid, denoiser.batch_size):
        x0, eps, t, text = (tensor.to(device) for tensor in draw()[1])
        noisy = scheduler.add_noise(x0, eps, t)
        prediction = unet(noisy, t, encoder_hidden_states=text).sample.float()
        targets = {"epsilon": eps, "v_prediction": scheduler.get_velocity(x0, eps, t), "sample": x0}
        for kind, value in targets.items():
            errors[kind].append((prediction - value).square().mean((1, 2, 3)))
    return {kind: torch.cat(values).mean().item() for kind, values in errors.items()}


def check_kind(name: str, denoiser: Denoiser, images: Images, seed: int = 0) -> None:
    """Raise ValueError unless the loss of what the scheduler says the model called ``name``
    predicts is below 1, that of a model which has learned nothing, and below those of the other
    kinds."""
    losses = losses_by_kind(denoiser, images, seed)
    declared = denoiser.scheduler.config.prediction_type
    if not losses[declared] < min(1.0, *(v for kind, v in losses.items() if kind != declared)):
        summary = ", ".join(f"{kind} {loss:.3f}" for kind, loss in losses.items())
        raise ValueError(
            f"{name}: losses are {summary}; the scheduler says {declared}, whose loss is expected "
            "below 1 and below the others'. Set components.scheduler.prediction_type, or "
            "train.check: false for a model that has not learned yet"
        )
