"""Bad inputs and what the study says of them, one row each. Nothing half-written is left, and no file of data runs code.

Every row breaks one thing in a copy of a good tiny study, or one of its parameters, and runs the real notebook or function on that,
in this process. The error must name what was found or expected, and the folder must be as before, byte by byte.
"""

import errno
import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_data import UNET, coco_content
from test_pipeline import NOTEBOOKS, ROOT, code, read

import abu
from abu.data.captions import load_captions
from abu.data.files import write_parts
from abu.data.prepared import Prepared
from abu.data.published import exemplars, read_tasks
from abu.diffusion.components import load_components
from abu.diffusion.encode import prepare
from abu.diffusion.train import train
from abu.judge.deviations import deviations
from abu.judge.lds import lds
from abu.judge.retrain import Recipe, retrain
from abu.study.run import execute, notebook_of, parameters
from abu.study.tasks import run_tasks

STAGES = ("components", "prepare", "train", "generate", "cache", "customize", "generate-customized")
STEP = {"relative_norm": 0.1, "damping": 0.1}
COMPARE = {"features": {"weights": "cross-attn-kv", "dimension": 64, "timesteps": [500]}, "settings": {}}
PANDA = {"category": "object", "class_word": "cat", "train_prompt": "<new1> cat", "keep": {"concept": ["panda"], "style": ["noto"]}}
TASK = {"synth_image_path": "a.png", "prompt": "<new1> cat", "model_path": "models/a", "train_prompt": "<new1> cat", "test_case": "one", "category": "cat"}


@cache
def cells(notebook: str) -> list:
    return [c for c in nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", 4).cells if c.cell_type == "code"]


def run(stage: str, **changes) -> None:
    """What ``abu.study.run`` does with a stage in the current folder, in this process and without figures, which take most of the time."""
    root = Path.cwd()
    own = {"customized": "panda"} if stage.startswith("customize") or "-" in stage else {}
    values = read(root / "params.yaml")["common"] | {"threads": 1} | parameters(stage, own | changes, root)
    Path(values["out"]).mkdir(parents=True, exist_ok=True)
    scope = {"display": lambda table: None}
    for cell in cells(notebook_of(stage)):
        exec(cell.source, scope)
        scope |= {n: lambda *shown, **options: None for n, f in scope.items() if getattr(f, "__module__", "") == "abu.report.figures"}
        if "parameters" in cell.metadata.get("tags", []):
            scope |= values


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A tiny study up to its caches, with one customized model and what is needed of ``tune``; nothing is kept in ``scratch``."""
    root = tmp_path_factory.mktemp("good")
    shutil.copy(ROOT / "tests" / "params.yaml", root)
    for name in ("notebooks", "data"):
        (root / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(abu, "ROOT", root)
        patch.chdir(root)
        for stage in STAGES:
            run(stage, **({"keep": {"concept": ["skull", "red heart"]}} if stage == "prepare" else {}))
    shutil.rmtree(root / "scratch")
    (root / "results/tune").mkdir()
    (root / "results/tune/chosen.json").write_text(json.dumps({"abu": STEP, "abu-plus": STEP}))
    return root


class Bomb:
    """Unpickling this leaves a file."""

    def __reduce__(self):
        return open, ("exploded", "w")


# What spoils a file


def edited(**changes) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def array(change: Callable) -> Callable[[Path], object]:
    return lambda path: np.save(path, change(np.load(path)))


with_nan = array(lambda values: np.where(np.arange(values.size).reshape(values.shape) % 7 == 0, np.nan, values).astype(values.dtype))
one_less = array(lambda values: values[:-1])
torn = lambda path: path.write_bytes(path.read_bytes()[:-200])
pickled = lambda path: np.save(path, np.array([Bomb()], object), allow_pickle=True)
text = lambda content: lambda path: path.write_text(content)


def as_bin(write: Callable[[Path], object]) -> Callable[[Path], object]:
    """In place of a safetensors file a ``.bin``, as torch writes it."""
    return lambda path: (path.unlink(), write(path.with_suffix(".bin")))


# What a row does: a function of pytest's monkeypatch that breaks something and returns what must be refused


def asked(stage: str, **changes) -> Callable:
    return lambda patch: partial(run, stage, **changes)


def spoilt(path: str, change: Callable, stage: str, **changes) -> Callable:
    def row(patch) -> Callable:
        change(Path("results", path))
        return partial(run, stage, **changes)

    return row


def coco(change: Callable[[dict, Path], object], keep: dict | None = None) -> Callable:
    """A COCO folder of two pictures, spoilt; what ``change`` returns, if it is a text, is the annotations file."""

    def row(patch) -> Callable:
        folder, content = Path("coco"), coco_content()
        folder.mkdir()
        for image in content["images"]:
            noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(folder / image["file_name"])
        found = change(content, folder)
        Path("coco.json").write_text(found if isinstance(found, str) else json.dumps(content))
        return partial(run, "prepare", annotations="coco.json", images="coco", keep=keep or {})

    return row


def called(function: Callable, *arguments) -> Callable:
    return lambda patch: lambda: function(*arguments)


def benchmark(rows, cases: str = "[]") -> Callable:
    """A published task list, and its list of exemplars."""

    def row(patch) -> Callable:
        Path("json").mkdir()
        Path("a.png").touch()
        Path("tasks.json").write_text(json.dumps(rows))
        Path("json/one.json").write_text(cases)
        return lambda: exemplars(read_tasks(Path("tasks.json"), Path()), Path())

    return row


def judged(**changes) -> Callable:
    """``retrain`` after a ``compare`` that scored everything 0."""

    def row(patch) -> Callable:
        ids, queries = json.loads(Path("results/train/train.json").read_text())["train_ids"], pd.read_csv("results/generate/queries.csv")
        Path("results/compare").mkdir()
        grid = pd.MultiIndex.from_product([["abu"], queries["query"], ids], names=["method", "query", "image_id"])
        grid.to_frame(index=False).assign(score=0.0).to_parquet("results/compare/scores.parquet")
        return partial(run, "retrain", **{"methods": ["abu"], **changes})

    return row


def boxed(shared, x: int) -> torch.Tensor:
    return torch.tensor([x])


def kept_task(change: Callable[[Path], object]) -> Callable:
    def row(patch) -> Callable:
        ask = partial(run_tasks, boxed, None, {"a": (1,)}, scratch=Path("kept"))
        change(ask()["a"].path)
        return lambda: ask()["a"].value

    return row


def small_train(checkpoint: Path) -> None:
    data, components = Prepared(Path("results/prepare")), load_components("results/components/model")
    train(data, components.scheduler, UNET | {"cross_attention_dim": 128}, data.ids, 1, 2, 1e-3, 1, checkpoint=checkpoint)


def checkpoint(change: Callable[[Path], object]) -> Callable:
    return lambda patch: (change(Path("kept.pt")), partial(small_train, Path("kept.pt")))[1]


def remove(ids: list[int]) -> None:
    trained = json.loads(Path("results/train/train.json").read_text())
    retrain(Recipe(Prepared(Path("results/prepare")), None, trained["config"], trained["recipe"], trained["train_ids"], "cpu"), ids, 0)


def full_disk(module, name: str, call: Callable[[], object]) -> Callable:
    """No space is left when a function of a module has begun to write."""

    def fail(*arguments, **options):
        for path in arguments:
            if isinstance(path, Path):
                path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda patch: patch.setattr(module, name, fail) or call


def encode() -> None:
    records = load_captions(Path("data/captions.json"), Path("data/images"), {"concept": ["skull"]})
    prepare(records, load_components("data/components"), Path("results/prepare"), 64, "float16")


def customized(**changes) -> Callable:
    return asked("customize", models={"panda": {name: value for name, value in (PANDA | changes).items() if value}})


ROWS: dict[str, tuple[Callable, type[Exception], str]] = {
    # annotations and pictures
    "annotations that are no json": (coco(lambda c, f: "{"), ValueError, "coco.json is not a COCO captions file: expected images"),
    "annotations in another form": (coco(lambda c, f: "[1, 2]"), ValueError, "expected images .id, file_name. and annotations"),
    "no annotations file": (asked("prepare", annotations="gone.json"), FileNotFoundError, "gone.json"),
    "an id twice": (coco(lambda c, f: c["images"].append(c["images"][0])), ValueError, r"duplicate image ids: \[3\]"),
    "an image without caption": (coco(lambda c, f: c["annotations"].pop(1)), ValueError, r"no caption for images \[3\]"),
    "nothing selected": (coco(lambda c, f: None, {"kind": ["z"]}), ValueError, "has no image where .'kind': .'z'."),
    "a text in place of a list": (coco(lambda c, f: None, {"kind": "abc"}), ValueError, "keep has {'kind': 'abc'}; expected a list"),
    "a missing picture": (coco(lambda c, f: (f / "1.png").unlink()), FileNotFoundError, "coco lacks 1 images of coco.json: .'1.png'."),
    "a torn picture": (coco(lambda c, f: torn(f / "1.png") and None), ValueError, "1.png is not a readable image: .*truncated"),
    "a picture that is none": (coco(lambda c, f: (f / "1.png").write_text("x") and None), ValueError, "1.png is not a readable image"),
    "a side of 0": (asked("prepare", side=0), ValueError, "side is 0; expected 1 pixel or more"),
    "a side that the autoencoder does not divide": (asked("prepare", side=66), ValueError, "side is 66; expected a multiple of 4"),
    "token states of another type": (asked("prepare", token_states="float8"), ValueError, "'float8'; expected float16, float32 or on-the-fly"),
    "a device that is not there": (asked("prepare", device="cuda:77"), RuntimeError, "device 'cuda:77' is not there"),
    "published token states without latents": (asked("prepare", texts="texts.npy"), ValueError, "prepare.texts is texts.npy, prepare.latents none"),
    # what prepare left
    "a manifest of other images": (spoilt("prepare/manifest.json", edited(ids=[1, 2]), "train"), ValueError, "list different images"),
    "a manifest without ids": (spoilt("prepare/manifest.json", text("{}"), "train"), ValueError, "manifest.json lacks .'ids', 'latents'"),
    "a torn manifest": (spoilt("prepare/manifest.json", torn, "train"), ValueError, "manifest.json is no json file"),
    "a table of other images": (spoilt("prepare/images.csv", text("id,file,caption\n1,a,b\n"), "train"), ValueError, "list different images"),
    "a table without ids": (spoilt("prepare/images.csv", text("file\na\n"), "train"), ValueError, "list different images"),
    "latents that are not finite, trained on": (spoilt("prepare/latents.npy", with_nan, "train"), FloatingPointError, "training loss of step 0: 1 of 1 values are not finite"),
    "latents that are not finite, scored": (spoilt("prepare/latents.npy", with_nan, "cache"), FloatingPointError, "curvature of .* not finite"),
    "latents of fewer images": (spoilt("prepare/latents.npy", one_less, "train"), ValueError, "list different images"),
    "token states of fewer images": (spoilt("prepare/texts.npy", one_less, "train"), ValueError, "list different images"),
    "token states of another width": (spoilt("prepare/texts.npy", array(lambda x: x[..., :9]), "train"), ValueError, r"token states are \(24, 9\); that of no caption is \(24, 128\)"),
    "missing latents": (spoilt("prepare/latents.npy", Path.unlink, "train"), FileNotFoundError, "prepare/latents.npy"),
    "torn latents": (spoilt("prepare/latents.npy", torn, "train"), ValueError, "latents.npy holds no array that can be read safely"),
    "a pickle in place of latents": (spoilt("prepare/latents.npy", pickled, "train"), ValueError, "latents.npy holds no array that can be read safely"),
    "a pickle in place of a small array": (spoilt("prepare/empty.npy", pickled, "train"), ValueError, "empty.npy holds no array that can be read safely"),
    # train
    "as many held out as there are": (asked("train", heldout=6), ValueError, "cannot hold out 6 of 6 images"),
    "no step of training": (asked("train", steps=0), ValueError, "steps is 0; expected 1 or more"),
    "a batch of nothing": (asked("train", batch_size=0), ValueError, "batch_size is 0; expected 1 or more"),
    "a checkpoint every 0 steps": (asked("train", checkpoint_every=0), ValueError, "checkpoint_every is 0"),
    "more captions dropped than there are": (asked("train", caption_dropout=2.0), ValueError, "caption_dropout is 2.0; expected a number within 0..1"),
    "a negative learning rate": (asked("train", lr=-1.0), ValueError, "Invalid learning rate: -1.0"),
    "an unknown mixed precision": (asked("train", precision="fp7"), ValueError, "fp7. Choose between"),
    "a misspelt option of the U-Net": (asked("train", unet={"block_out_chanels": [8]}), TypeError, "unexpected keyword argument 'block_out_chanels'"),
    "a checkpoint with code in it": (checkpoint(lambda path: torch.save({"losses": Bomb()}, path)), ValueError, "kept.pt holds no tensors that can be read safely"),
    "a torn checkpoint": (checkpoint(lambda path: torch.save({"losses": []}, path) or torn(path)), ValueError, "kept.pt holds no tensors that can be read safely"),
    "ids that were never prepared": (spoilt("train/train.json", edited(train_ids=[77777]), "cache"), KeyError, r"images \[77777\] were not prepared"),
    "code in the trained weights": (spoilt("train/unet/diffusion_pytorch_model.safetensors", as_bin(partial(torch.save, {"x": Bomb()})), "generate"), Exception, "diffusion_pytorch_model"),
    # queries
    "no prompt": (asked("generate", prompts={"plain": []}), ValueError, "no query: the list of prompts is empty"),
    "prompts without kinds": (asked("generate", prompts=["skull"]), ValueError, "prompts are .'skull'.; expected a list of texts for each kind"),
    "a text in place of prompts": (asked("generate", prompts={"plain": "skull"}), ValueError, "expected a list of texts for each kind"),
    "a number in place of a prompt": (asked("generate", prompts={"plain": [3]}), ValueError, "expected a list of texts for each kind"),
    "right images by a field that there is not": (lambda patch: (run("generate", prompts={"plain": {"skull": {"colour": "red"}}}), partial(run, "unlearn", **STEP))[1], KeyError, "images have no field .'colour'.; expected some of"),
    "a guidance that is no number": (asked("generate", guidance=float("nan")), ValueError, "guidance is nan; expected a number"),
    "a guidance in words": (asked("generate", guidance="high"), ValueError, "guidance is 'high'; expected a number"),
    "an eta below 0": (asked("generate", eta=-1.0), ValueError, "eta is -1.0; expected a number within 0..1"),
    "no step of sampling": (asked("generate", steps=0), ValueError, "steps is 0; expected 1 or more"),
    # caches
    "unknown weights": (asked("cache", weights="kv"), ValueError, "weight selection is 'kv'; expected one of"),
    "unknown curvature": (asked("cache", curvature="kfac"), ValueError, "curvature is 'kfac'"),
    "a store without its curvature": (asked("cache", curvature="diagonal"), ValueError, "curvature is 'diagonal', store 1024; .* ekfac for a store"),
    "a store larger than the weights": (asked("cache", store=10**6), ValueError, "store is 1000000; expected at most the 16384 coordinates"),
    "a store below 0": (asked("cache", store=-1), ValueError, "store is -1"),
    "no cotangent": (asked("cache", cotangents=0), ValueError, "cotangents is 0; expected 1 or more"),
    "no draw of Fisher information": (asked("cache", fisher_draws=0), ValueError, "fisher_draws is 0"),
    "shards of nothing": (asked("cache", shard=0), ValueError, "shard is 0"),
    "no timestep": (asked("cache", timesteps=[]), ValueError, r"timesteps are \[\]; expected some within 0..999"),
    "a timestep outside the schedule": (asked("cache", timesteps=[1000]), ValueError, r"timesteps are \[1000\]; expected some within 0..999"),
    "more captions than there are": (asked("cache", captions=9), ValueError, "captions is 9; the images have 5 each"),
    "no caption": (asked("cache", captions=0), ValueError, "captions is 0"),
    "rows of nothing": (asked("cache", batch_size=0), ValueError, "batch_size is 0"),
    "released Fisher information for EK-FAC": (asked("cache", fisher="fisher.pt"), ValueError, "cache.fisher is fisher.pt: a diagonal alone"),
    "an unknown engine": (asked("cache", engine="spark"), ValueError, "engine is 'spark'; expected one of"),
    "an unknown precision": (asked("cache", precision="fp8"), ValueError, "precision is 'fp8'; expected one of"),
    "EK-FAC of convolutions": (asked("cache", weights="all", store=0), TypeError, "is not the weight of a Linear layer"),
    # unlearn
    "a cache of another seed": (asked("unlearn", seed=1, **STEP), ValueError, "seed is 0; expected 1"),
    "a cache of another model": (spoilt("cache/manifest.json", edited(model="other"), "unlearn", **STEP), ValueError, 'model is "other"; expected'),
    "a cache of other weights": (spoilt("cache/manifest.json", edited(weights="cross-attn"), "unlearn", **STEP), KeyError, "the cache has no diagonal curvature for .*to_q.weight"),
    "losses at other timesteps": (spoilt("cache/manifest.json", edited(timesteps=[500]), "unlearn", **STEP), ValueError, r"losses.npy has the shape \(4, 2, 2, 2\); its manifest says \(4, 2, 2, 1\)"),
    "losses of fewer images": (spoilt("cache/losses.npy", one_less, "unlearn", **STEP), ValueError, r"shape \(3, 2, 2, 2\); its manifest says \(4, 2, 2, 2\)"),
    "losses that are not finite": (spoilt("cache/losses.npy", with_nan, "unlearn", **STEP), FloatingPointError, "losses.npy: 5 of 32 values are not finite"),
    "a pickle in place of losses": (spoilt("cache/losses.npy", pickled, "unlearn", **STEP), ValueError, "losses.npy holds no array that can be read safely"),
    "curvature that was not cached": (lambda patch: (run("cache", curvature="diagonal", store=0), partial(run, "unlearn", curvature="ekfac", **STEP))[1], KeyError, "the cache has no ekfac curvature for .*: cache it with curvature: ekfac"),
    "torn curvature": (spoilt("cache/curvature.safetensors", torn, "unlearn", **STEP), ValueError, "curvature.safetensors holds no tensors that can be read safely"),
    "another store": (spoilt("cache/store.npy", array(lambda x: x[..., :64]), "influence"), ValueError, r"store.npy has the shape .* 64\); its manifest says .* 1024\)"),
    "an unknown curvature of the step": (asked("unlearn", curvature="kfac", **STEP), ValueError, "curvature is 'kfac'; expected one of"),
    "flips reduced in an unknown way": (asked("unlearn", flips_reduce="median", **STEP), ValueError, "flips_reduce is 'median'; expected one of"),
    "two lengths of a step": (asked("unlearn", alpha=0.1, **STEP), ValueError, "give one of alpha and relative_norm; found 0.1 and 0.1"),
    "a step of no length": (asked("unlearn", **STEP | {"relative_norm": 0.0}), ValueError, "relative_norm 0.0; expected a number above 0"),
    "no step": (asked("unlearn", **STEP, steps=0), ValueError, "steps is 0"),
    "an N below 1": (asked("unlearn", alpha=0.1, n=-5, damping=0.1), ValueError, "n is -5"),
    "negative damping": (asked("unlearn", **STEP | {"damping": -1.0}), ValueError, "damping is -1.0; expected 0 or more"),
    "no draw of the gradient": (asked("unlearn", **STEP, gradient_draws=0), ValueError, "gradient_draws is 0"),
    "a query that is not finite": (spoilt("generate/latents.npy", with_nan, "unlearn", **STEP), FloatingPointError, "query gradient of .* not finite"),
    # other methods
    "an unknown method": (asked("compare", methods=["latent", "tracks"], **COMPARE), KeyError, "unknown methods .'tracks'.; expected some of"),
    "a projection that does not divide": (asked("tune", projection=[100]), ValueError, "projection size 100 does not divide 256"),
    "a ridge of 0": (asked("tune", ridge=[0.0]), ValueError, "ridge is 0.0; expected a number above 0"),
    "sketches of no number": (asked("tune", dimension=0), ValueError, "dimension is 0"),
    # the judge
    "more images removed than there are": (judged(k=[4]), ValueError, "k is 4; expected 1 or more, and fewer than the 4 images"),
    "a method that was not compared": (judged(methods=["das"]), KeyError, "methods .'das'. were not compared"),
    "a group of no query": (judged(groups={"all": ["plian"]}), ValueError, "no query is of the kinds of {'all': .'plian'.}; expected some of"),
    "images to remove that nobody trained on": (called(remove, [3]), KeyError, r"images \[3\] cannot be removed: the model did not train on them"),
    "losses of queries that are not finite": (called(deviations, pd.DataFrame(), pd.DataFrame(), {"loss": np.array([[np.nan]])}, 0), FloatingPointError, "not every loss of the queries is finite"),
    "scores that are not finite": (called(lds, np.full((1, 4), np.nan), np.ones((3, 4), bool), np.ones((1, 3))), FloatingPointError, "4 of 4 scores are not finite"),
    # customized models
    "no such customized model": (asked("customize", customized="zebra"), KeyError, "no customized model 'zebra'; expected one of .'panda'."),
    "a prompt without the new token": (asked("customize", token="<new2>"), ValueError, "train prompts lack the token '<new2>'"),
    "a class word of several tokens": (customized(class_word="hedgehoggery"), ValueError, "class word 'hedgehoggery' is unknown to the tokenizer"),
    "exemplars that were trained on": (customized(keep={"concept": ["skull"], "style": ["noto"]}), ValueError, "exemplars .* of 'panda' were trained on"),
    "exemplars that there are not": (customized(keep={"concept": ["pandabear"]}), ValueError, "no exemplar where {'concept': .'pandabear'.}"),
    "a customized model half described": (customized(class_word=None, keep=None), KeyError, "'panda' lacks .'class_word', 'keep'."),
    "no step of customizing": (asked("customize", steps=0), ValueError, "steps is 0"),
    "a query without the new token": (asked("generate-customized", prompts={"object": ["cat"]}), ValueError, "prompts of 'panda' lack its token '<new1>': .'cat'."),
    "no prompt for the category": (asked("generate-customized", prompts={"style": ["<new1>"]}), ValueError, "no query"),
    "another base model": (spoilt("customize/panda/customized.json", edited(base="another"), "generate-customized"), ValueError, 'base is "another"; expected'),
    "a model that was not customized": (asked("unlearn", customized="pandas", **STEP), FileNotFoundError, "no customized model 'pandas'"),
    "code in a token": (spoilt("customize/panda/<new1>.safetensors", as_bin(partial(torch.save, {"<new1>": Bomb()})), "generate-customized"), ValueError, "<new1>.bin holds no tensors that can be read safely"),
    "a bare pickle in place of a token": (spoilt("customize/panda/<new1>.safetensors", as_bin(lambda path: path.write_bytes(pickle.dumps(Bomb(), 2))), "generate-customized"), ValueError, "<new1>.bin holds no tensors"),
    # the published benchmark
    "a task list in another form": (benchmark({"tasks": []}), ValueError, "is not a task list: expected a json list of rows"),
    "a task without its fields": (benchmark([{"prompt": "a"}]), ValueError, "row 0 lacks .'synth_image_path'"),
    "a task without its exemplars": (benchmark([TASK]), IndexError, "lists 0 cases; the task list asks for number 0"),
    # kept work, full disks, the runner
    "a torn task": (kept_task(torn), ValueError, "npz holds no finished task .*: delete it, and it is run again"),
    "a pickle in place of a task": (kept_task(lambda path: np.savez(path, value=np.array([Bomb()], object), seconds=1.0)), ValueError, "npz holds no finished task"),
    "a full disk under a task": (full_disk(np, "savez", partial(run_tasks, lambda shared: torch.ones(3), None, {"a": ()}, scratch=Path("kept"))), OSError, "No space left"),
    "a full disk under a checkpoint": (full_disk(torch, "save", partial(small_train, Path("kept.pt"))), OSError, "No space left"),
    "a full disk under prepared images": (full_disk(np.memmap, "flush", encode), OSError, "No space left"),
    "a full disk under a store": (full_disk(np.memmap, "flush", partial(write_parts, Path("store.npy"), (2, 3), "float16", [torch.ones(2, 3)])), OSError, "No space left"),
    "a stage that there is not": (lambda patch: partial(execute, "unlearned", {}, Path.cwd()), KeyError, "unknown stage 'unlearned'; expected one of"),
    "a parameter that there is not": (lambda patch: partial(execute, "unlearn", {"dampening": 1}, Path.cwd()), KeyError, "declares no parameter .'dampening'."),
    "a common parameter that there is not": (lambda patch: (Path("params.yaml").write_text(Path("params.yaml").read_text().replace("  seed: 0", "  sead: 0", 1)), partial(execute, "unlearn", {}, Path.cwd()))[1], KeyError, "no notebook declares the common parameter .'sead'."),
}  # fmt: skip


def contents(root: Path) -> dict[str, str]:
    """Hash of each file below a folder, but for finished tasks, which are kept by design; torn ones count."""
    files = [path for path in root.rglob("*") if path.is_file() and (path.name.startswith(".") or "scratch" not in path.parts)]
    return {str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("row", ROWS)
def test_it_is_refused_and_nothing_is_left(row: str, good, tmp_path, monkeypatch) -> None:
    broken, error, message = ROWS[row]
    root = tmp_path / "study"
    shutil.copytree(good, root, symlinks=True, ignore=shutil.ignore_patterns("components"))
    (root / "results/components").symlink_to(good / "results/components")  # large, and no row touches it
    monkeypatch.chdir(root)
    monkeypatch.setattr(abu, "ROOT", root)
    refused = broken(monkeypatch)
    before = contents(root)
    with pytest.raises(error, match=message):
        refused()
    assert contents(root) == before


def test_a_bomb_goes_off_where_code_is_let_in(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb())).close()
    assert Path("exploded").exists()


UNSAFE = {
    r"(import|from)\s+(pickle|cPickle|dill|joblib|shelve|marshal)\b": "import pickle",
    r"read_pickle": "pd.read_pickle(path)",
    r"allow_pickle\s*=\s*True": "np.load(path, allow_pickle=True)",
    r"torch\.load\((?!.*weights_only=True)": "torch.load(path)",
}


def test_no_module_notebook_or_benchmark_loads_a_pickle() -> None:
    assert all(re.search(pattern, example) for pattern, example in UNSAFE.items())
    files = [*NOTEBOOKS, *sorted((ROOT / "src").rglob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))]
    found = [(file.name, line) for file in files for line in code(file).splitlines() if any(re.search(p, line) for p in UNSAFE)]
    assert len(files) > 40 and not found
