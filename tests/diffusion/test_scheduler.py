"""Schedulers of others, as DDIM: the same noise, or a refusal by name."""

import json
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler

from abu import ROOT
from abu.diffusion.scheduler import EXPECTED, FAMILY, load_scheduler

SD1 = {  # as Stable Diffusion v1.4 has it
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.7.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}


def saved(folder: Path, config: dict) -> Path:
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    return folder


def test_the_scheduler_of_stable_diffusion(tmp_path) -> None:
    scheduler = load_scheduler(saved(tmp_path, SD1))
    own = diffusers.PNDMScheduler.from_config(SD1)
    assert type(scheduler) is DDIMScheduler and torch.equal(scheduler.betas, own.betas)
    config = scheduler.config
    assert config.prediction_type == "epsilon" and config.set_alpha_to_one is False
    assert scheduler.final_alpha_cumprod == own.alphas_cumprod[0]


@pytest.mark.parametrize("said", [None, False, True])
@pytest.mark.parametrize("name", ["PNDMScheduler", "DDIMScheduler", "DDPMScheduler"])
def test_latents_are_clipped_only_where_the_config_says_so(tmp_path, name: str, said) -> None:
    config = {key: value for key, value in SD1.items() if key != "clip_sample"}
    config |= {"_class_name": name} | ({} if said is None else {"clip_sample": said})
    scheduler = load_scheduler(saved(tmp_path, config))
    assert scheduler.config.clip_sample is bool(said)
    scheduler.set_timesteps(10)
    x = torch.full((1, 4, 2, 2), 5.0)
    drawn = scheduler.step(torch.zeros_like(x), scheduler.timesteps[-1], x).pred_original_sample
    assert bool((drawn.abs() <= 1).all()) is bool(said)
    again = DDIMScheduler.from_config(scheduler.config, timestep_spacing="trailing")
    assert again.config.clip_sample is bool(said), "as it is drawn with"


@pytest.mark.filterwarnings("ignore")  # numpy's, of the schedulers
@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("given", [{}, {"beta_schedule": "scaled_linear", "beta_end": 0.012}])
def test_noise_is_that_of_its_own_class(tmp_path, name: str, given: dict) -> None:
    """Also what the class takes for granted, which differs between them."""
    own = getattr(diffusers, name).from_config(given)
    own.save_pretrained(tmp_path / "whole/scheduler")
    sources = [saved(tmp_path, {"_class_name": name, **given}), tmp_path / "whole"]
    for scheduler in map(load_scheduler, sources):
        torch.testing.assert_close(scheduler.alphas_cumprod, own.alphas_cumprod)
        for key in ("num_train_timesteps", "prediction_type", "set_alpha_to_one"):
            assert scheduler.config[key] == own.config.get(key, scheduler.config[key])


@pytest.mark.parametrize(
    "given",
    [
        {"trained_betas": [0.001 * (i + 1) for i in range(20)], "num_train_timesteps": 20},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        {"beta_schedule": "squaredcos_cap_v2"},
    ],
)
def test_schedules_are_honoured(tmp_path, given: dict) -> None:
    scheduler = load_scheduler(saved(tmp_path, {"_class_name": "DDPMScheduler", **given}))
    own = diffusers.DDPMScheduler.from_config(given)
    assert torch.equal(scheduler.alphas_cumprod, own.alphas_cumprod)
    assert scheduler.config.prediction_type == given.get("prediction_type", "epsilon")


REFUSED = [
    ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "is of class FlowMatch"),
    ({"_class_name": "EDMEulerScheduler", "sigma_data": 0.5}, "is of class EDMEulerScheduler"),
    ({"_class_name": "LCMScheduler"}, "is of class LCMScheduler; expected one of DDIMScheduler"),
    ({"prediction_type": "sample"}, "prediction_type: 'sample'; expected 'epsilon' or 'v_pred"),
    ({"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "flow_prediction"}, "flow"),
    ({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True}, "has use_flow_sigmas"),
    ({"_class_name": "DDPMScheduler", "variance_type": "learned_range"}, "has variance_type"),
    ({"_class_name": "DDPMScheduler", "beta_schedule": "sigmoid"}, "has beta_schedule: 'sigmoid'"),
    ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type"),
    ({"predict_epsilon": False}, "has {'predict_epsilon': False}, which no scheduler"),
]


@pytest.mark.parametrize("config, message", REFUSED, ids=lambda x: str(x)[:50])
def test_what_means_another_model_is_refused(tmp_path, config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_scheduler(saved(tmp_path, config))


def test_changes_come_last(tmp_path) -> None:
    saved(tmp_path, {"prediction_type": "sample"})
    assert load_scheduler(tmp_path, {"prediction_type": "epsilon"}).config.clip_sample is False
    assert load_scheduler(tmp_path, {"prediction_type": "epsilon", "clip_sample": True}).config[
        "clip_sample"
    ]
    with pytest.raises(KeyError, match="the scheduler has no .'solver_order'.; expected some of"):
        load_scheduler(tmp_path, {"solver_order": 2})
    assert load_scheduler(ROOT / "data/components").config.clip_sample_range == 3.0
    assert set(EXPECTED) > {"prediction_type", "beta_schedule"}
