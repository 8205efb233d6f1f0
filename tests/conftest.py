"""What tests of several rooms build on: a small U-Net with named images, the embedded components,
prepared pictures, a Ray cluster, a study that has run."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from filelock import FileLock
from helpers import IDS, ROOT, SMALL, TIMESTEPS
from studies import begin, end, ended, study_in

from abu.data.captions import load_captions
from abu.data.images import Images
from abu.data.prepared import Prepared
from abu.data.readers import Tensors
from abu.diffusion.components import load_components
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.encode import prepare
from abu.diffusion.grid import Grid
from abu.diffusion.noise import normal, normals
from abu.diffusion.unet import select_weights

SHARED = "ABU_TESTS"  # of the environment


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**SMALL).eval().requires_grad_(False)


@pytest.fixture(params=["epsilon", "v_prediction"])
def scheduler(request) -> DDIMScheduler:
    return DDIMScheduler(prediction_type=request.param, beta_schedule="squaredcos_cap_v2")


@pytest.fixture(scope="module")
def images() -> Images:
    """Five images with mirror images and two captions each, by ids that are not in order."""
    latents = torch.stack([normal((2, 4, 8, 8), "latents", id) for id in IDS])
    texts = torch.stack([normal((2, 6, 8), "texts", id) for id in IDS])
    return Images(IDS, latents, texts)


@pytest.fixture
def denoiser(unet, scheduler) -> Denoiser:
    """The small U-Net, its keys and values of cross-attention attributed, in batches of four."""
    return Denoiser(unet, scheduler, select_weights(unet, "cross-attn-kv"), batch_size=4)


@pytest.fixture
def grid() -> Grid:
    return Grid(TIMESTEPS)


@pytest.fixture
def moves(denoiser) -> Tensors:
    """Two moves of the attributed weights, [2, *shape] each."""
    shapes = {name: tuple(denoiser.unet.get_parameter(name).shape) for name in denoiser.weights}
    named = lambda name: [("move", name, q) for q in range(2)]
    return {name: 0.1 * normals(shape, named(name)) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def components():
    return load_components(ROOT / "data/components")


@pytest.fixture(scope="module")
def records():
    kept = {"concept": ["skull", "ghost", "alien"]}
    return load_captions(ROOT / "data/captions.json", ROOT / "data/images", kept)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, components, records) -> Prepared:
    out = tmp_path_factory.mktemp("prepared")
    prepare(records, components, out, 64, "float32")
    return Prepared(out, components.states)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread of torch, as a task on Ray has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A local Ray cluster, whose workers can import tests' functions and are no nicer than what
    else runs: beside busy processes they would not so much as import torch in minutes."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_worker_niceness"] = "0"
    here = Path(__file__).parent
    folders = [
        str(ROOT / "src"),
        str(here),
        *(str(path) for path in here.iterdir() if path.is_dir()),
    ]
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(map(str, folders))}}
    options = {"include_dashboard": False, "log_to_driver": False}
    ray.init(num_cpus=2, runtime_env=environment, **options)
    yield
    ray.shutdown()


def pytest_configure(config: pytest.Config) -> None:
    """A folder for what processes of the tests share."""
    if not hasattr(config, "workerinput"):
        os.environ[SHARED] = mkdtemp(prefix="abu-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        end(Path(folder := os.environ.pop(SHARED), "tiny"))
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def begun(request) -> Path | None:
    """The study of tests/params.yaml, which runs beside the tests that do not need it; the first
    process of the tests that has one which does begins it."""
    torch.set_num_threads(1)  # tests' tensors are small; the other cores are for that study
    if not any("tiny" in item.fixturenames for item in request.session.items):
        return None
    root = Path(os.environ[SHARED], "tiny")
    with FileLock(f"{root}.lock"):
        if not root.exists():
            begin(study_in(root))
    return root


@pytest.fixture(scope="session")
def tiny(begun: Path) -> Path:
    """That study when it has run; who changes something takes a ``copy``."""
    assert ended(begun) == 0, Path(f"{begun}.log").read_text()[-3000:]
    return begun


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who needs that study comes last."""
    items.sort(key=lambda item: "tiny" in item.fixturenames)
