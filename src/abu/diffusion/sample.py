"""Draw pictures: DDIM (eta 0) or DDPM (eta 1) with classifier-free guidance, every random number
named."""

import math
from collections.abc import Callable

import torch
from diffusers import DDIMScheduler

from abu.data.checks import check_counts, check_shares
from abu.diffusion.noise import normals

BATCH = 64  # rows a forward pass


@torch.no_grad()
def sample(
    unet,
    scheduler: DDIMScheduler,
    texts,
    empty,
    names: list[tuple],
    shape: tuple[int, ...],
    steps: int = 25,
    guidance: float = 2.0,
    eta: float = 0.0,
    observe: Callable[[int, torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Latents, float32 [Q, *shape], one for each of ``texts`` [Q, L, D]; ``empty`` [L, D] is the
    state of no caption.

    Initial noise is named (*name, "sample"), that of step t (*name, "sample", t): a query's picture
    does not depend on the others in its batch. ``observe(t, x0)`` is told what each step takes for
    the finished latents [Q, *shape]. Raises ValueError for no query, no step, an eta outside 0..1
    or a guidance that is no finite number.
    """
    if not len(texts):
        raise ValueError("no query: the list of prompts is empty")
    check_counts(steps=steps)
    check_shares(eta=eta)
    if not isinstance(guidance, int | float) or not math.isfinite(guidance):
        raise ValueError(f"guidance is {guidance!r}; expected a number")
    device = next(unet.parameters()).device
    scheduler = DDIMScheduler.from_config(scheduler.config, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    states = torch.cat([texts, empty.expand_as(texts)]).to(device)
    x = normals(shape, [(*name, "sample") for name in names]).to(device)
    for t in scheduler.timesteps:
        rows = zip(torch.cat([x, x]).split(BATCH), states.split(BATCH))
        conditional, unconditional = torch.cat(
            [unet(latents, t, encoder_hidden_states=text).sample for latents, text in rows]
        ).chunk(2)
        prediction = unconditional + guidance * (conditional - unconditional)
        noise = (
            normals(shape, [(*name, "sample", int(t)) for name in names]).to(device)
            if eta
            else None
        )
        step = scheduler.step(prediction, t, x, eta=eta, variance_noise=noise)
        x = step.prev_sample
        if observe:
            observe(int(t), step.pred_original_sample.cpu())
    return x.cpu()
