"""Core math against something simpler: a loop, plain autograd, float64, a closed form."""

from functools import partial

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel  # noqa: F401  (imported early: slow)

from abu.core.curvature import precondition
from abu.core.fisher import fisher_diagonal, query_gradient
from abu.core.unlearn import moved, norm, score, unlearn
from abu.diffusion.device import use_device
from abu.diffusion.losses import check_timesteps, denoising_loss, loss_table
from abu.diffusion.noise import normal, normals, permutation, stream
from abu.diffusion.sample import sample
from abu.diffusion.unet import select_weights
from abu.judge.intervals import standard_error
from abu.judge.ranking import chance_recall, rank, recall

CONFIG = dict(
    sample_size=8, in_channels=4, out_channels=4, cross_attention_dim=8, block_out_channels=(8, 8), norm_num_groups=4,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    layers_per_block=1, attention_head_dim=4,
)  # fmt: skip
N, IDS, TIMESTEPS = 5, [70, 10, 50, 20, 90], [100, 600, 999]


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(**CONFIG).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data():
    latents = torch.stack([normal((2, 4, 8, 8), "latents", id) for id in IDS])
    texts = torch.stack([normal((2, 6, 8), "texts", id) for id in IDS])
    return latents, texts


@pytest.fixture(params=["epsilon", "v_prediction"])
def scheduler(request):
    return DDIMScheduler(prediction_type=request.param, beta_schedule="squaredcos_cap_v2")


def test_noise_depends_on_its_name_alone():
    one = normal((3, 4), 0, "loss", 7, 0, 100)
    assert torch.equal(one, normals((3, 4), [(0, "loss", 8, 0, 100), (0, "loss", 7, 0, 100)])[1])
    for other in ((1, "loss", 7, 0, 100), (0, "train", 7, 0, 100), (0, "loss", 7, 100, 0), (0, "loss", "7", 0, 100)):
        assert not torch.equal(one, normal((3, 4), *other))
    assert torch.equal(one, normal((3, 4), np.int64(0), "loss", np.int64(7), 0, 100))
    draws = normals((4096,), [("moments", i) for i in range(16)])
    assert abs(draws.mean()) < 0.02 and abs(draws.std() - 1) < 0.02
    assert abs(torch.corrcoef(draws) - torch.eye(16)).max() < 0.08
    assert sorted(permutation(9, "p")) == list(range(9)) and stream("a").random() == stream("a").random()


def test_losses_equal_a_plain_loop_and_follow_the_ids(unet, scheduler, data):
    latents, texts = data
    table = loss_table(unet, scheduler, latents, texts, IDS, TIMESTEPS, seed=3, batch_size=7)
    assert table.shape == (N, 2, 2, 3)
    signal = scheduler.alphas_cumprod.double()
    for i, f, c, s in [(0, 0, 0, 0), (2, 1, 1, 2), (4, 0, 1, 1)]:
        t = TIMESTEPS[s]
        eps = normal((4, 8, 8), 3, "loss", IDS[i], c, t)
        a, b = signal[t].sqrt(), (1 - signal[t]).sqrt()
        x0 = latents[i, f].double()
        wanted = eps if scheduler.config.prediction_type == "epsilon" else a * eps - b * x0
        found = unet((a * x0 + b * eps)[None].float(), t, encoder_hidden_states=texts[i, c][None]).sample[0]
        assert table[i, f, c, s] == pytest.approx(((found - wanted) ** 2).mean().item(), rel=1e-4)
    order = torch.tensor([3, 1])
    part = loss_table(unet, scheduler, latents[order], texts[order], [IDS[i] for i in order], TIMESTEPS, 3, 2)
    torch.testing.assert_close(part, table[order], rtol=1e-5, atol=1e-6)


def test_timesteps_and_finiteness_are_checked(unet, scheduler, data):
    latents, texts = data
    for wrong in ([], [1000], [-1, 5]):
        with pytest.raises(ValueError, match="expected some within 0..999"):
            check_timesteps(scheduler, wrong)
    with pytest.raises(FloatingPointError, match="losses: .* not finite"):
        loss_table(unet, scheduler, latents * torch.nan, texts, IDS, [5])
    with pytest.raises(ValueError, match="prediction_type is 'sample'"):
        loss_table(unet, DDIMScheduler(prediction_type="sample"), latents, texts, IDS, [5])


def fisher(unet, scheduler, data, weights, **options):
    latents, texts = data
    example = lambda i, flip, caption: (latents[i, flip % 2], texts[i, caption % 2])
    return fisher_diagonal(unet, scheduler, weights, example, IDS, draws=2, **options)


def test_fisher_is_the_same_in_any_batch_and_selection(unet, scheduler, data):
    weights = select_weights(unet, "cross-attn-kv")
    fast = fisher(unet, scheduler, data, weights, batch_size=4)
    other = fisher(unet, scheduler, data, weights, batch_size=3)
    everything = fisher(unet, scheduler, data, select_weights(unet, "all"))
    for name in weights:
        assert fast[name].dtype == torch.float64 and fast[name].max() > 0
        torch.testing.assert_close(fast[name], everything[name], rtol=1e-4, atol=1e-12)
        torch.testing.assert_close(fast[name], other[name], rtol=1e-4, atol=1e-12)


def test_query_gradient_equals_finite_difference(unet, scheduler, data):
    latents, texts = data
    weights = select_weights(unet, "cross-attn-kv")
    ask = lambda: query_gradient(unet, scheduler, weights, latents[0, 0], texts[0, 0], (0,), TIMESTEPS, 3, 4)
    loss, gradient = ask()
    step = {name: 1e-2 * g / norm(gradient) for name, g in gradient.items()}
    with moved(unet, step):
        up = ask()[0]
    with moved(unet, {name: -s for name, s in step.items()}):
        down = ask()[0]
    assert (up - down) / 2 == pytest.approx(1e-2 * norm(gradient), rel=2e-2)
    assert loss == pytest.approx((up + down) / 2, rel=1e-3)


def test_selections_name_weights(unet):
    kv = select_weights(unet, "cross-attn-kv")
    assert kv and all("attn2" in name and ("to_k" in name or "to_v" in name) for name in kv)
    assert [n for n, p in unet.named_parameters() if p.requires_grad] == kv
    sizes = [len(select_weights(unet, s)) for s in ("cross-attn-kv", "cross-attn", "attn", "all")]
    assert sizes == sorted(set(sizes))
    with pytest.raises(ValueError, match="weight selection is 'kv'"):
        select_weights(unet, "kv")
    with pytest.raises(ValueError, match="matches no parameter"):
        select_weights(torch.nn.Linear(2, 2), "attn")


def test_newton_step_solves_the_quadratic():
    """On L = -g.theta + n/2 theta F theta the step of eq. 5 is the exact optimum, F^-1 g / n."""
    model = torch.nn.Linear(3, 2, bias=False).double()
    start = model.weight.detach().clone()
    g, f = torch.randn(2, 3, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64) + 0.1
    by = lambda damping: partial(precondition, "diagonal", cached={"weight": f}, damping=damping)
    delta = unlearn(model, lambda *_: {"weight": g}, by(0.0), alpha=1.0, n=7)["weight"]
    torch.testing.assert_close(7 * f * delta, g)
    assert torch.equal(model.weight, start)
    half = unlearn(model, lambda *_: {"weight": g}, by(0.5), steps=3, relative_norm=0.2)
    assert norm(half) == pytest.approx(0.2 * norm({"w": start}))


def test_unlearn_raises_the_loss_of_its_query(unet, scheduler, data):
    latents, texts = data
    weights = select_weights(unet, "cross-attn-kv")
    f = fisher(unet, scheduler, data, weights)
    ask = lambda model: query_gradient(model, scheduler, weights, latents[1, 0], texts[1, 0], (0,), TIMESTEPS, 4)
    delta = unlearn(unet, lambda model, step: ask(model)[1], partial(precondition, "diagonal", cached=f, damping=0.1), steps=2, relative_norm=0.3)
    start = ask(unet)[0]
    with moved(unet, delta):
        assert ask(unet)[0] > start
    assert ask(unet)[0] == start


def test_unlearn_refuses_what_has_no_meaning():
    g = {"w": torch.ones(2)}
    with pytest.raises(ValueError, match="zeros: give a damping"):
        precondition("diagonal", g, {"w": torch.tensor([1.0, 0.0])}, 0.0)
    with pytest.raises(ValueError, match="zeros"):
        precondition("diagonal", g, {"w": torch.zeros(2)}, 0.1)
    with pytest.raises(KeyError):
        precondition("diagonal", g, {"v": torch.ones(2)}, 0.1)
    with pytest.raises(ValueError, match="one of alpha and relative_norm"):
        unlearn(torch.nn.Linear(1, 1), lambda *_: g, lambda g: g, alpha=1.0, relative_norm=0.1)


def test_score_takes_the_larger_of_image_and_mirror_image():
    before = torch.zeros(2, 2, 1, 2)
    after = torch.tensor([[1.0, 3.0, 0.0, 1.0], [0.0, 0.0, 4.0, 4.0]]).reshape(2, 2, 1, 2)
    assert score(before, after).tolist() == [2.0, 4.0]
    assert score(before, after, "mean").tolist() == [1.25, 2.0]
    with pytest.raises(ValueError, match="differ in shape"):
        score(before, after[:1])


def test_sample_is_the_same_in_any_batch(unet, scheduler):
    texts, empty = normals((6, 8), [("text", i) for i in range(3)]), torch.zeros(6, 8)
    names = [(0, "query", i) for i in range(3)]
    for eta in (0.0, 1.0):
        together = sample(unet, scheduler, texts, empty, names, (4, 8, 8), steps=3, eta=eta)
        alone = sample(unet, scheduler, texts[2:], empty, names[2:], (4, 8, 8), steps=3, eta=eta)
        torch.testing.assert_close(together[2:], alone, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="no query"):
        sample(unet, scheduler, texts[:0], empty, [], (4, 8, 8))


@pytest.mark.parametrize("schedule", [{"beta_schedule": "squaredcos_cap_v2"}, {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_loss_is_the_training_loss_of_diffusers(unet, data, kind, schedule):
    """As its text-to-image training script has it: a DDPM scheduler, and the mean squared error of its target."""
    theirs = DDPMScheduler(prediction_type=kind, **schedule)
    ours = DDIMScheduler.from_config(theirs.config)
    x, eps, t, text = data[0][:4, 0], normals((4, 8, 8), [("e", i) for i in range(4)]), torch.tensor([0, 250, 600, 999]), data[1][:4, 0]
    wanted = eps if kind == "epsilon" else theirs.get_velocity(x, eps, t)
    prediction = unet(theirs.add_noise(x, eps, t), t, text).sample
    loss = torch.nn.functional.mse_loss(prediction.float(), wanted.float(), reduction="mean")
    torch.testing.assert_close(denoising_loss(unet, ours, x, eps, t, text).mean(), loss)


def test_metrics_on_a_case_done_by_hand():
    scores, relevant = np.array([0.1, 0.9, 0.5, 0.9]), np.array([True, False, True, True])
    assert rank(scores).tolist() == [1, 3, 2, 0]
    assert [recall(scores, relevant, k) for k in (1, 2, 3, 4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert np.mean([recall(stream("r", i).random(20), np.arange(20) < 3, 4) for i in range(4000)]) == pytest.approx(
        chance_recall(20, 4), abs=0.01
    )
    assert standard_error(np.array([1.0, 3.0])) == pytest.approx(1.0)
    with pytest.raises(FloatingPointError):
        rank(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="recall is not defined"):
        recall(scores, relevant & False, 1)


def test_a_device_that_is_not_there():
    assert use_device("cpu").type == "cpu"
    with pytest.raises(RuntimeError, match="device 'cuda:77' is not there"):
        use_device("cuda:77")
