"""Every query in one pass over the training images: what a move of the weights does to each image's
loss, to second order.

For a query's move ``Delta``, residual ``r`` and Jacobian ``J`` of the output's D numbers in the
attributed weights, ``L(theta_0 + Delta) - L(theta_0) = (2/D) r.(J Delta) + (1/D) |J Delta|^2`` up
to the output's own curvature. The first term is AbU's eq. 16 (an influence function). The second is
the Gauss-Newton term; for ``v ~ N(0, I)``, ``E (Delta . J^T v)^2 = |J Delta|^2``, so that backward
passes from random cotangents v serve every query at once. Moves of Q queries are ``deltas``: [Q,
*shape] by weight; what they do comes as [Q, N, F, C, T] under the noise of the loss table.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from abu.core.taps import Taps
from abu.data.checks import check_finite
from abu.data.images import Images
from abu.data.readers import Tensors
from abu.diffusion.attention import share_text
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.grid import Grid, batches, filled
from abu.diffusion.losses import check_timesteps, target
from abu.diffusion.noise import normals
from abu.diffusion.prefetch import prefetch


def gauss_newton(
    denoiser: Denoiser, deltas: Tensors, images: Images, grid: Grid, cotangents: int
) -> tuple[Tensor, Tensor]:
    """``grad L(z, t) . Delta_q`` [Q, N, F, C, T] and ``(Delta_q . J^T v)^2 / D`` [..., cotangents],
    float32.

    The mean over cotangents estimates ``|J Delta|^2 / D`` without bias, with a relative standard
    deviation of ``sqrt(2 / cotangents)`` for one timestep. v is named (seed, "cotangent", image id,
    caption, timestep, number), the same for both flips.
    """
    flat, shape = flatten(deltas), grid.shape(images)
    queries, dims = len(flat[denoiser.weights[0]]), images.latents[0, 0].numel()
    linear, curved = torch.empty(*shape, queries), torch.empty(*shape, cotangents, queries)
    for (i, c, t, f), number, taps in jacobian_products(denoiser, images, grid, cotangents):
        dots, place = products(taps, flat).cpu(), (i, f, grid.place(c), t)
        if number == 0:
            linear[place] = dots
        else:
            curved[*place, number - 1] = dots.square() / dims
    linear, curved = (filled(term, images, grid) for term in (linear, curved))
    check_finite("first-order scores", linear)
    check_finite("Gauss-Newton scores", curved)
    return linear.movedim(-1, 0), curved.movedim(-1, 0)


def forward_mode(
    denoiser: Denoiser, delta: Tensors, images: Images, grid: Grid
) -> tuple[Tensor, Tensor]:
    """``grad L . Delta`` and ``|J Delta|^2 / D`` of one move [*shape] without any cotangent,
    float32 [N, F, C, T].

    Exact, at about three forward passes a query.
    """
    check_timesteps(denoiser.scheduler, grid.timesteps)
    unet, scheduler = share_text(denoiser.model()), denoiser.scheduler
    params = {name: unet.get_parameter(name).detach() for name in denoiser.weights}
    table = torch.empty(*grid.shape(images), 2)
    device, makers = next(unet.parameters()).device, batches(images, grid, denoiser.batch_size)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # others have no forward mode
        for (i, c, t_, f), (x0, eps, t, text) in prefetch(makers, device):
            noisy = scheduler.add_noise(x0, eps, t)

            def output(p: Tensors, noisy=noisy, t=t, text=text) -> Tensor:
                kwargs = {"encoder_hidden_states": text}
                return functional_call(unet, p, (noisy, t), kwargs).sample.float()

            value, tangent, *_ = torch.func.jvp(output, (params,), (delta,))
            residual = value - target(scheduler, x0, eps, t).float()
            terms = (2 * residual * tangent).flatten(1).mean(1), tangent.square().flatten(1).mean(1)
            table[i, f, grid.place(c), t_] = torch.stack(terms, 1).cpu()
    table = filled(table, images, grid)
    check_finite("forward-mode scores", table)
    return table[..., 0], table[..., 1]


def jacobian_products(
    denoiser: Denoiser, images: Images, grid: Grid, cotangents: int
) -> Iterator[tuple[tuple[Tensor, ...], int, Taps]]:
    """Places (i, c, t, f), a number and taps, batch after batch.

    Number 0 holds the gradients of each row's own loss, numbers 1 to ``cotangents`` hold ``J^T v``
    of each row's own v.
    """
    check_timesteps(denoiser.scheduler, grid.timesteps)
    unet, scheduler = share_text(denoiser.model()), denoiser.scheduler
    makers = batches(images, grid, denoiser.batch_size)
    augmented = [partial(with_cotangents, batch, images, grid, cotangents) for batch in makers]
    for place, (x0, eps, t, text, *v) in prefetch(augmented, next(unet.parameters()).device):
        # a row's own keys and values, to get its own gradients
        text = text.repeat_interleave(len(x0) // len(text), 0)
        with Taps(unet, denoiser.weights) as taps:
            noisy = scheduler.add_noise(x0, eps, t)
            output = unet(noisy, t, encoder_hidden_states=text).sample.float()
            residual = (output - target(scheduler, x0, eps, t).float()).detach()
            for number, cotangent in enumerate([2 / x0[0].numel() * residual, *v]):
                taps.backward(output, cotangent, retain=number < len(v))
                yield place, number, taps


def with_cotangents(batch: Callable, images: Images, grid: Grid, cotangents: int):
    """A batch of ``batches`` and ``cotangents`` named draws, [B, c, h, w] each."""
    place, tensors = batch()
    rows = list(zip(*(z.tolist() for z in place)))
    keys = [(grid.seed, "cotangent", images.ids[i], c, grid.timesteps[t]) for i, c, t, _ in rows]
    shape = tensors[0].shape[1:]
    return place, [*tensors, *(normals(shape, [(*k, n) for k in keys]) for n in range(cotangents))]


def flatten(deltas: Tensors) -> Tensors:
    """[Q, *shape] -> [Q, numel] of each weight."""
    return {name: delta.flatten(1) for name, delta in deltas.items()}


def products(taps: Taps, flat: Tensors) -> Tensor:
    """``sum_weights g_b . Delta_q`` of the tapped gradients: [B, Q]."""
    total = torch.zeros((), device=next(iter(flat.values())).device)
    for name, delta in flat.items():
        gradient = taps.gradient(name).flatten(1)
        total = total + gradient @ delta.T.to(gradient)
    return total


def means(parts: Iterable[tuple[Tensor, Tensor]], *choices: tuple[slice, slice]) -> Tensor:
    """Both terms of ``gauss_newton``, which come in parts of the images, as means over captions,
    timesteps and cotangents: float32 [choices, 2, Q, N, F], and nothing else is held.

    ``choices``: which timesteps and which cotangents count; without any, all. A move r times as
    long has r times the first term and r^2 times the second; their sum is the rise of each image's
    loss and mirror image's (see ``abu.core.unlearn.over_flips``).
    """
    choices = choices or ((slice(None), slice(None)),)
    mean = lambda term: term.double().flatten(3).mean(3).float()
    of = lambda linear, curved, t, v: torch.stack([mean(linear[..., t]), mean(curved[..., t, v])])
    return torch.cat([torch.stack([of(*both, *choice) for choice in choices]) for both in parts], 3)
