"""Evidence: each kind is a pair of queries and images, in their order."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import IDS, ROOT, TIMESTEPS

from abu.baselines.coupling import among_images, coupling, damped_factor
from abu.baselines.evidence import Evidence, Seen
from abu.baselines.features import Features, Sketch, feature_task
from abu.core.attribution import Attribution
from abu.data.queries import Queries
from abu.data.rows import Parts
from abu.diffusion.embed import clip_texts
from abu.diffusion.grid import Grid
from abu.diffusion.noise import normals
from abu.study.tasks import run_tasks


@pytest.fixture
def evidence(denoiser, images, records, tmp_path) -> Evidence:
    queries = Queries(["one", "two"], normals((4, 8, 8), [(0,), (1,)]), images.texts[:2, 0])
    shared = Attribution(denoiser, images, Grid(TIMESTEPS), queries=queries)
    files = [str(record.path) for record in records[:5]]
    captions = [[record.captions[0], "a ghost"] for record in records[:5]]
    pictures = normals((3, 64, 64), [("picture", q) for q in range(2)]).sigmoid()
    models = ROOT / "data/components"
    seen = Seen(files, captions, ["a skull", "a ghost"], pictures, models)
    sampler, run = {"steps": 2, "guidance": 2.0}, partial(run_tasks, scratch=tmp_path)
    return Evidence(shared, seen, torch.zeros(6, 8), sampler, 32, 2, run, shard=2, walked=4)


def whole(parts: Parts) -> torch.Tensor:
    return torch.cat(list(parts))


def test_what_is_seen_is_that_of_queries_and_images(evidence: Evidence, images) -> None:
    assert evidence("names") == ["one", "two"]
    assert evidence("ids") == IDS and evidence("seed") == 0
    latents = evidence("latents")
    assert torch.equal(latents[0], evidence.shared.queries.latents)
    assert torch.equal(whole(latents[1]), images.latents[:, 0])
    pixels = whole(evidence("pixels")[1])
    assert pixels.shape == (5, 3, 64, 64) and 0 <= pixels.min() < pixels.max() <= 1
    queries, texts = evidence("clip texts")
    assert texts.shape == (5, queries.shape[1])  # of each image's first caption
    firsts = [few[0] for few in evidence.seen.captions]
    shown = clip_texts(evidence.seen.models / "clip", firsts)
    assert torch.allclose(texts, shown, atol=1e-5)
    assert evidence("words") == (["a skull", "a ghost"], evidence.seen.captions)
    assert evidence.storage["words"] == sum(len(first + "a ghost") for first in firsts)
    assert [len(part) for part in evidence("clip images")] == [2, 5]
    with pytest.raises(FileNotFoundError, match="components.dino in params.yaml names a folder"):
        evidence("dino images")


def test_gradients_are_those_of_one_task_for_all(evidence: Evidence) -> None:
    denoiser, images = evidence.shared.denoiser, evidence.shared.images
    sizes = {name: shape.numel() for name, shape in evidence.shared.shapes().items()}
    common = Features(denoiser, Sketch(sizes, 32, 0), TIMESTEPS, 0, 2)
    expected = feature_task(common, images)
    queries, found = evidence("mean gradients")
    assert torch.equal(whole(found), expected["mean"].float().mean(1))
    assert torch.equal(evidence("losses"), expected["losses"].mean(1))
    asked = feature_task(common, evidence.shared.queries.images())
    assert torch.equal(queries, asked["mean"].float().mean(1))
    assert evidence.once["mean gradients"] > 0 and evidence.storage["mean gradients"] == 5 * 32 * 4
    rows, of_images = evidence("random rows")
    assert torch.equal(rows, asked["random"]) and torch.equal(whole(of_images), expected["random"])
    assert torch.equal(evidence("loss rows")[0][:, :, 0], asked["loss"])
    alone = replace(evidence, known={}, spent={}, once={})  # nothing was asked before
    assert torch.equal(alone("random rows")[0], rows) and alone.once["random rows"] > 0
    matrix = evidence("gauss-newton matrix")
    each, factor = evidence("couplings")(0.5), damped_factor(matrix, 0.5)
    assert evidence("couplings")(0.5) is each
    assert torch.equal(each, coupling((rows, of_images), factor))
    assert torch.equal(evidence("image couplings")(0.5), among_images(of_images, factor))
    losses = evidence("loss couplings")
    assert torch.equal(losses(0.5), coupling((asked["loss"][:, :, None], of_images), factor))
    assert not torch.allclose(losses(2.0), losses(0.5))
    assert evidence("factor")(0.5) is evidence("factor")(0.5)
    assert evidence.once["couplings"] > evidence.once["random rows"]  # the matrix is made once, too
    assert evidence.storage["couplings"] == evidence.storage["random rows"]
    counted = evidence.once.keys() | evidence.storage.keys()
    assert "image couplings" not in counted, "what a method takes is counted once"
    flat = expected["random"].flatten(0, 2).double()
    assert torch.allclose(matrix.double(), flat.T @ flat / len(flat), rtol=1e-4, atol=1e-6)
    journey, same = evidence("journey gradients")
    assert journey.shape == (2, 32) and torch.equal(
        whole(same), whole(evidence("loss gradients")[1])
    )
    longer = replace(evidence, sampler={"steps": 3, "guidance": 2.0}, known={})
    assert not torch.equal(longer("journey gradients")[0], journey)
