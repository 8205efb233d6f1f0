"""Training: common random numbers, resumed to the bit, on one process or two."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from helpers import UNET

from abu.diffusion.train import Recipe, batch, hold_out, initial_unet, slots, train
from abu.diffusion.unet import load_unet


@pytest.fixture(scope="module")
def recipe(prepared) -> Recipe:
    config = UNET | {"cross_attention_dim": prepared.texts.shape[-1]}
    return Recipe(config, steps=6, batch_size=4, lr=1e-3, warmup=1, ema_decay=0.5)


def test_hold_out_is_named(prepared) -> None:
    ids = prepared.ids
    kept, out = hold_out(ids, 3, seed=0)
    assert sorted(kept + out) == sorted(ids) and len(out) == 3
    assert hold_out(ids, 3, 0) == (kept, out)
    with pytest.raises(ValueError, match="cannot hold out"):
        hold_out(ids, len(ids), 0)


def test_kept_images_meet_the_same_randomness_whoever_is_left_out(
    prepared, components, recipe
) -> None:
    rows = slots(len(prepared.ids), 3, 8, seed=0)
    assert len(set(slots(9, 0, 9, 0))) == 9 and {epoch for _, epoch in rows} == {2, 3}
    kept = [row for row in rows if row[0] % 2]
    whole, few = (batch(prepared, components.scheduler, r, 0, recipe) for r in (rows, kept))
    places = [rows.index(row) for row in kept]
    assert all(torch.equal(w[places], f) for w, f in zip(whole, few))


def test_training_resumes_to_the_bit_and_refuses_nonsense(
    tmp_path, prepared, components, recipe
) -> None:
    def run(recipe=recipe, keep=prepared.ids, **options):
        options |= {"checkpoint_every": 2, "progress": ""}
        return train(prepared, components.scheduler, recipe, keep, **options)

    observe = lambda unet: {"x": unet.conv_in.weight.sum().item()}
    straight, losses, history = run(observe=observe)
    calls = []

    def stop(unet):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return observe(unet)

    file = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=file, observe=stop)
    resumed, again, story = run(checkpoint=file, observe=observe)
    assert losses == again and history == story and len(losses) == 6
    for a, b in zip(straight.parameters(), resumed.parameters()):
        assert torch.equal(a, b)
    without, *_ = run(keep=prepared.ids[1:])
    assert not torch.equal(without.conv_in.weight, straight.conv_in.weight)
    first, second = (initial_unet(recipe.config, 0).conv_in.weight for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(ValueError, match="no image to train on"):
        run(keep=[])
    with pytest.raises(KeyError, match="were not prepared"):
        run(keep=[-5])
    with pytest.raises(FloatingPointError, match="training loss of step"):
        run(replace(recipe, lr=1e30))


@pytest.mark.slow
def test_two_processes_train_the_model_of_one(tmp_path, prepared, components, recipe) -> None:
    """accelerate with two CPU processes; odd batches and left-out images share unevenly. Tolerance:
    float32 rounding."""
    recipe, keep = replace(recipe, steps=4, batch_size=5), prepared.ids[2:]
    facts, script, result = (tmp_path / name for name in ("facts.json", "worker.py", "unet"))
    facts.write_text(json.dumps([str(prepared.folder), asdict(recipe), keep, str(result)]))
    script.write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launch, "--nproc_per_node", "2", str(script), str(facts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    one, losses, _ = train(prepared, components.scheduler, recipe, keep, progress="")
    two = load_unet(result)
    for a, b in zip(one.parameters(), two.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)
    shared = json.loads((tmp_path / "losses.json").read_text())
    assert shared == pytest.approx(losses, rel=1e-4)


WORKER = """
import json, sys
from pathlib import Path
from accelerate import PartialState
from abu import ROOT
from abu.data.prepared import Prepared
from abu.diffusion.components import load_components
from abu.diffusion.train import Recipe, train

folder, recipe, keep, out = json.loads(Path(sys.argv[1]).read_text())
scheduler = load_components(ROOT / "data/components").scheduler
unet, losses, _ = train(Prepared(Path(folder)), scheduler, Recipe(**recipe), keep, progress="")
state = PartialState()
assert state.num_processes == 2
if state.is_main_process:
    unet.save_pretrained(out)
    Path(out).with_name("losses.json").write_text(json.dumps(losses))
state.destroy_process_group()
"""
