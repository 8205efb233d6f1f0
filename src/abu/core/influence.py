"""Every query in one pass over the training images: what a move of the weights does to each image's loss, to second order.

For a query's move ``Delta``, residual ``r`` and Jacobian ``J`` of the output's D numbers in the attributed weights,
``L(theta_0 + Delta) - L(theta_0) = (2/D) r.(J Delta) + (1/D) |J Delta|^2`` up to the output's own curvature. The first term is
AbU's eq. 16 (an influence function). The second is the Gauss-Newton term; for ``v ~ N(0, I)``, ``E (Delta . J^T v)^2 =
|J Delta|^2``, so that backward passes from random cotangents v serve every query at once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from abu.core.taps import Taps
from abu.data.checks import check_finite
from abu.data.progress import track
from abu.data.readers import Tensors
from abu.diffusion.attention import share_text
from abu.diffusion.losses import check_timesteps, denoising_loss, named_batches, target
from abu.diffusion.noise import normals
from abu.diffusion.prefetch import prefetch


def first_order(
    unet,
    scheduler,
    weights: Sequence[str],
    deltas: Tensors,
    latents: Tensor,
    texts: Tensor,
    ids: Sequence[int],
    timesteps: Sequence[int],
    seed: int = 0,
    batch_size: int = 64,
    progress: str = "",
) -> Tensor:
    """``mean_t grad L(z, t) . Delta_q`` under the noise of the loss table: float32 [Q, N, F, C].

    ``deltas``: [Q, *shape] by weight; the others as in ``abu.diffusion.losses.loss_table``. The timesteps of a caption share its keys
    and values, so that their gradients come summed and a further query costs one product a caption.
    """
    check_timesteps(scheduler, timesteps)
    device, flat = next(share_text(unet).parameters()).device, flatten(deltas)
    out = torch.zeros(
        len(latents), latents.shape[1], texts.shape[1], len(flat[weights[0]]), device=device
    )
    parts = [
        (f, batch)
        for f in range(latents.shape[1])
        for batch in named_batches(latents[:, f : f + 1], texts, ids, timesteps, seed, batch_size)
    ]
    batches = prefetch([batch for _, batch in parts], device)
    for (f, _), ((i, c, _, _), batch) in track(zip(parts, batches), progress, len(parts)):
        captions = len(batch[-1])
        with Taps(unet, weights) as taps:
            taps.backward(denoising_loss(unet, scheduler, *batch).sum())
        found = products(taps, flat, captions)
        every = len(i) // captions
        out[i[::every], f, c[::every]] += found
    check_finite("first-order scores", out)
    return out.permute(3, 0, 1, 2).cpu() / len(timesteps)


def gauss_newton(
    unet,
    scheduler,
    weights: Sequence[str],
    deltas: Tensors,
    latents: Tensor,
    texts: Tensor,
    ids: Sequence[int],
    timesteps: Sequence[int],
    cotangents: int,
    seed: int = 0,
    batch_size: int = 64,
    progress: str = "",
) -> tuple[Tensor, Tensor]:
    """``grad L(z, t) . Delta_q`` [Q, N, F, C, T] and ``(Delta_q . J^T v)^2 / D`` [Q, N, F, C, T, cotangents], float32.

    Arguments as in ``first_order``. The mean over cotangents estimates ``|J Delta|^2 / D`` without bias, with a relative
    standard deviation of ``sqrt(2 / cotangents)`` for one timestep. v is named (seed, "cotangent", image id, caption, timestep,
    number), the same for both flips.
    """
    flat = flatten(deltas)
    shape = (len(latents), latents.shape[1], texts.shape[1], len(timesteps))
    places, first, second = [], [], []
    walk = jacobian_products(
        unet,
        scheduler,
        weights,
        latents,
        texts,
        ids,
        timesteps,
        cotangents,
        seed,
        batch_size,
        progress,
    )
    for place, number, taps in walk:
        found = products(taps, flat, len(place[0]))
        if number == 0:
            places.append(torch.stack(place))
        (first if number == 0 else second).append(found)
    i, c, t, f = torch.cat(places, 1)
    linear = torch.empty(*shape, len(flat[weights[0]]))
    linear[i, f, c, t] = torch.cat(first).cpu()
    dims = latents[0, 0].numel()
    curved = torch.empty(*shape, cotangents, linear.shape[-1])
    if cotangents:
        batches = [
            torch.stack(second[at : at + cotangents], 1) for at in range(0, len(second), cotangents)
        ]
        curved[i, f, c, t] = torch.cat(batches).cpu().square() / dims
    check_finite("first-order scores", linear)
    check_finite("Gauss-Newton scores", curved)
    return linear.movedim(-1, 0), curved.movedim(-1, 0)


def forward_mode(
    unet,
    scheduler,
    weights: Sequence[str],
    delta: Tensors,
    latents: Tensor,
    texts: Tensor,
    ids: Sequence[int],
    timesteps: Sequence[int],
    seed: int = 0,
    batch_size: int = 64,
    progress: str = "",
) -> tuple[Tensor, Tensor]:
    """``grad L . Delta`` and ``|J Delta|^2 / D`` of one move without any cotangent, float32 [N, F, C, T]: exact, by forward mode,
    at about three forward passes a query. ``delta``: [*shape] by weight; the others as in ``first_order``."""
    check_timesteps(scheduler, timesteps)
    params = {name: share_text(unet).get_parameter(name).detach() for name in weights}
    named = named_batches(latents, texts, ids, timesteps, seed, batch_size)
    places, found = [], []
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
    ):  # other kernels of attention have no forward mode
        for place, (x0, eps, t, text) in track(
            prefetch(named, next(unet.parameters()).device), progress, len(named)
        ):
            noisy = scheduler.add_noise(x0, eps, t)
            output = lambda p: functional_call(
                unet, p, (noisy, t), {"encoder_hidden_states": text}
            ).sample.float()
            value, tangent = torch.func.jvp(output, (params,), (delta,))
            residual = value - target(scheduler, x0, eps, t).float()
            places.append(torch.stack(place))
            found.append(
                torch.stack(
                    [
                        (2 * residual * tangent).flatten(1).mean(1),
                        tangent.square().flatten(1).mean(1),
                    ],
                    1,
                )
            )
    i, c, t, f = torch.cat(places, 1)
    out = torch.empty(len(latents), latents.shape[1], texts.shape[1], len(timesteps), 2)
    out[i, f, c, t] = torch.cat(found).cpu()
    check_finite("forward-mode scores", out)
    return out[..., 0], out[..., 1]


def jacobian_products(
    unet,
    scheduler,
    weights: Sequence[str],
    latents: Tensor,
    texts: Tensor,
    ids: Sequence[int],
    timesteps: Sequence[int],
    cotangents: int,
    seed: int = 0,
    batch_size: int = 64,
    progress: str = "",
) -> Iterator[tuple[tuple[Tensor, ...], int, Taps]]:
    """Places (i, c, t, f), a number and taps, batch after batch: number 0 holds the gradients of each row's own loss, numbers
    1 to ``cotangents`` hold ``J^T v`` of each row's own v."""
    check_timesteps(scheduler, timesteps)
    device = next(share_text(unet).parameters()).device
    named = named_batches(latents, texts, ids, timesteps, seed, batch_size)
    batches = [partial(with_cotangents, batch, ids, timesteps, cotangents, seed) for batch in named]
    for place, (x0, eps, t, text, *v) in track(prefetch(batches, device), progress, len(batches)):
        text = text.repeat_interleave(
            len(x0) // len(text), 0
        )  # a row's own keys and values, to get its own gradients
        with Taps(unet, weights) as taps:
            output = unet(
                scheduler.add_noise(x0, eps, t), t, encoder_hidden_states=text
            ).sample.float()
            residual = (output - target(scheduler, x0, eps, t).float()).detach()
            for number, cotangent in enumerate([2 / x0[0].numel() * residual, *v]):
                taps.backward(output, cotangent, retain=number < len(v))
                yield place, number, taps


def with_cotangents(
    batch: Callable, ids: Sequence[int], timesteps: Sequence[int], cotangents: int, seed: int
):
    """A batch of ``named_batches`` and ``cotangents`` named draws, [B, c, h, w] each."""
    place, tensors = batch()
    rows = list(zip(*(z.tolist() for z in place)))
    named = lambda k: [(seed, "cotangent", ids[i], c, timesteps[t], k) for i, c, t, _ in rows]
    return place, [*tensors, *(normals(tensors[0].shape[1:], named(k)) for k in range(cotangents))]


def flatten(deltas: Tensors) -> Tensors:
    """[Q, *shape] -> [Q, numel] of each weight."""
    return {name: delta.flatten(1) for name, delta in deltas.items()}


def products(taps: Taps, flat: Tensors, groups: int) -> Tensor:
    """``sum_weights g_b . Delta_q`` of the tapped gradients, summed over the rows of each of ``groups``: [groups, Q]."""
    total = 0
    for name, delta in flat.items():
        found = taps.gradient(name).flatten(1) @ delta.T.to(taps.dy[name.rpartition(".")[0]])
        total = total + found.reshape(groups, -1, found.shape[1]).sum(1)
    return total


def means(parts: Iterable[tuple[Tensor, Tensor]], *choices: tuple[slice, slice]) -> Tensor:
    """Both terms of ``gauss_newton``, which come in parts of the images, as means over captions, timesteps and cotangents: float32
    [choices, 2, Q, N, F], and nothing else is held.

    ``choices``: which timesteps and which cotangents count; without any, all. A move r times as long has r times the first term and
    r^2 times the second; their sum is the rise of each image's loss and mirror image's (see ``abu.core.unlearn.over_flips``).
    """
    choices = choices or ((slice(None), slice(None)),)
    mean = lambda term: term.double().flatten(3).mean(3).float()
    reduced = lambda linear, curved: [
        torch.stack([mean(linear[..., t]), mean(curved[..., t, v])]) for t, v in choices
    ]
    return torch.cat([torch.stack(reduced(*terms)) for terms in parts], 3)
