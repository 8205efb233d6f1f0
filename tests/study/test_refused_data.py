"""Bad pictures, captions, models and queries, and what the study says of them, one row each.
Nothing half-written is left, and no file of data runs code."""

import pickle
import re
from functools import partial
from pathlib import Path

import numpy as np
import torch
from refusing import (
    Bomb,
    array,
    as_bin,
    asked,
    checkpoint,
    coco,
    edited,
    encode,
    finished,
    full_disk,
    one_less,
    pickled,
    picture,
    refused,
    small_train,
    spoilt,
    text,
    torn,
    with_nan,
)
from test_declarations import NOTEBOOKS, source

from abu import ROOT
from abu.data.files import write_parts
from abu.study.tasks import run_tasks

NO_ARRAY = "holds no array that can be read safely"
NO_TENSORS = "holds no tensors that can be read safely"
DIFFERENT = "list different images"
bomb = partial(torch.save, {"x": Bomb()})
keep = lambda kinds: coco(lambda content, folder: None, {"kind": kinds})
prepared = lambda name, change, stage="train": spoilt(f"prepare/{name}", change, stage)
prompts = lambda given: asked("generate", prompts=given)
train = partial(asked, "train")
ANNOTATIONS = {
    "annotations that are no json": (
        coco(lambda c, f: "{"),
        "coco.json is not a COCO captions file: expected images",
    ),
    "annotations in another form": (
        coco(lambda c, f: "[1, 2]"),
        "expected images .id, file_name. and annotations",
    ),
    "no annotations file": (
        asked("prepare", annotations="gone.json"),
        FileNotFoundError,
        "gone.json",
    ),
    "an id twice": (
        coco(lambda c, f: c["images"].append(c["images"][0])),
        r"duplicate image ids: \[3\]",
    ),
    "an image without caption": (
        coco(lambda c, f: c["annotations"].pop(1)),
        r"no caption for images \[3\]",
    ),
    "a caption that is null": (
        coco(lambda c, f: c["annotations"][1].update(caption=None)),
        "coco.json: annotation 1 of image 3 has the caption None; expected a text",
    ),
    "a caption that is a number": (
        coco(lambda c, f: c["annotations"][1].update(caption=7)),
        "annotation 1 of image 3 has the caption 7; expected a text",
    ),
    "another way with images without captions": (
        asked("prepare", uncaptioned="skip"),
        "uncaptioned is 'skip'; expected refuse or drop",
    ),
    "shards": (
        asked("prepare", annotations="00000.tar"),
        "00000.tar is packed, as WebDataset's shards are; unpack it",
    ),
    "nothing selected": (keep(["z"]), "has no image where .'kind': .'z'."),
    "a text in place of a list": (keep("abc"), "keep has {'kind': 'abc'}; expected a list"),
    "a missing picture": (
        picture(Path.unlink),
        FileNotFoundError,
        "coco lacks 1 images of coco.json: .'1.png'.",
    ),
    "a torn picture": (picture(torn), "1.png is not a readable image: .*truncated"),
    "a picture that is none": (picture(text("x")), "1.png is not a readable image"),
    "every picture spoilt": (
        coco(lambda c, f: [text("x")(path) for path in f.iterdir()] and None),
        "2 of 2 pictures cannot be read:\n.*3.png is not a readable.*\n.*1.png is not a readable",
    ),
    "a background that is no colour": (
        asked("prepare", background="whit"),
        "background is 'whit'; expected a colour",
    ),
    "a side of 0": (asked("prepare", side=0), "side is 0; expected 1 pixel or more"),
    "a side that the autoencoder does not divide": (
        asked("prepare", side=66),
        "side is 66; expected a multiple of 8",
    ),
    "token states of another type": (
        asked("prepare", token_states="float8"),
        "'float8'; expected float16, float32 or on-the-fly",
    ),
    "a device that is not there": (
        asked("prepare", device="cuda:77"),
        RuntimeError,
        "device 'cuda:77' is not there",
    ),
    "published token states without latents": (
        asked("prepare", texts="texts.npy"),
        "prepare.texts is texts.npy, prepare.latents none",
    ),
}
PREPARED = {
    "a manifest of other images": (prepared("manifest.json", edited(ids=[1, 2])), DIFFERENT),
    "a manifest without ids": (
        prepared("manifest.json", text("{}")),
        "manifest.json lacks .'ids', 'latents'",
    ),
    "a torn manifest": (prepared("manifest.json", torn), "manifest.json is no json file"),
    "a table of other images": (
        prepared("images.csv", text("id,file,caption\n1,a,b\n")),
        DIFFERENT,
    ),
    "a table without ids": (prepared("images.csv", text("file\na\n")), DIFFERENT),
    "latents that are not finite, trained on": (
        prepared("latents.npy", with_nan),
        FloatingPointError,
        "training loss of step 0: 1 of 1 values are not finite",
    ),
    "latents that are not finite, scored": (
        prepared("latents.npy", with_nan, "cache"),
        FloatingPointError,
        "curvature of .* not finite",
    ),
    "latents of fewer images": (prepared("latents.npy", one_less), DIFFERENT),
    "token states of fewer images": (prepared("texts.npy", one_less), DIFFERENT),
    "token states of another width": (
        prepared("texts.npy", array(lambda x: x[..., :9])),
        r"token states are \(24, 9\); that of no caption is \(24, 128\)",
    ),
    "missing latents": (
        prepared("latents.npy", Path.unlink),
        FileNotFoundError,
        "prepare/latents.npy",
    ),
    "torn latents": (prepared("latents.npy", torn), f"latents.npy {NO_ARRAY}"),
    "a pickle in place of latents": (prepared("latents.npy", pickled), f"latents.npy {NO_ARRAY}"),
    "a pickle in place of a small array": (prepared("empty.npy", pickled), f"empty.npy {NO_ARRAY}"),
}
TRAINED = {
    "as many held out as there are": (train(heldout=12), "cannot hold out 12 of 12 images"),
    "no step of training": (train(steps=0), "steps is 0; expected 1 or more"),
    "a batch of nothing": (train(batch_size=0), "batch_size is 0; expected 1 or more"),
    "a checkpoint every 0 steps": (train(checkpoint_every=0), "checkpoint_every is 0"),
    "more captions dropped than there are": (
        train(caption_dropout=2.0),
        "caption_dropout is 2.0; expected a number within 0..1",
    ),
    "a negative learning rate": (train(lr=-1.0), "train.lr is -1.0; expected a number, 0 or more"),
    "an unknown mixed precision": (train(precision="fp7"), "fp7. Choose between"),
    "a misspelt option of the U-Net": (
        train(unet={"block_out_chanels": [8]}),
        TypeError,
        "unexpected keyword argument 'block_out_chanels'",
    ),
    "a checkpoint with code in it": (
        checkpoint(lambda path: torch.save({"losses": Bomb()}, path)),
        f"kept.pt {NO_TENSORS}",
    ),
    "a torn checkpoint": (
        checkpoint(lambda path: torch.save({"losses": []}, path) or torn(path)),
        f"kept.pt {NO_TENSORS}",
    ),
    "ids that were never prepared": (
        spoilt("train/train.json", edited(train_ids=[77777]), "cache"),
        KeyError,
        r"images \[77777\] were not prepared",
    ),
    "code in the trained weights": (
        spoilt("train/unet/diffusion_pytorch_model.safetensors", as_bin(bomb), "generate"),
        Exception,
        "diffusion_pytorch_model",
    ),
}
TEXTS = "expected a list of texts for each kind"
QUERIES = {
    "no prompt": (prompts({"plain": []}), "no query: the list of prompts is empty"),
    "prompts without kinds": (
        prompts(["skull"]),
        "generate.prompts is .'skull'.; expected a mapping",
    ),
    "a text in place of prompts": (prompts({"plain": "skull"}), TEXTS),
    "a number in place of a prompt": (prompts({"plain": [3]}), TEXTS),
    "a guidance that is no number": (
        asked("generate", guidance=float("nan")),
        "generate.guidance is nan; expected a finite number",
    ),
    "a guidance in words": (
        asked("generate", guidance="high"),
        "guidance is 'high'; expected a number",
    ),
    "an eta below 0": (
        asked("generate", eta=-1.0),
        "generate.eta is -1.0; expected a number, 0 or more",
    ),
    "no step of sampling": (asked("generate", steps=0), "steps is 0; expected 1 or more"),
}
NO_TASK = "npz holds no finished task"
held = lambda path: np.savez(path, x=np.array([Bomb()], object), seconds=1.0)
one = lambda shared: {"x": torch.ones(3)}
FULL = OSError, "No space left"
KEPT = {
    "a torn task": (finished(torn), f"{NO_TASK} .*: delete it, and it is run again"),
    "a pickle in place of a task": (finished(held), NO_TASK),
    "a full disk under a task": (
        full_disk(np, "savez", partial(run_tasks, one, None, {"a": ()}, scratch=Path("kept"))),
        *FULL,
    ),
    "a full disk under a checkpoint": (
        full_disk(torch, "save", partial(small_train, Path("kept.pt"))),
        *FULL,
    ),
    "a full disk under prepared images": (full_disk(np.memmap, "flush", encode), *FULL),
    "a full disk under a store": (
        full_disk(
            np.memmap,
            "flush",
            partial(write_parts, Path("store.npy"), (2, 3), "float16", [torch.ones(2, 3)]),
        ),
        *FULL,
    ),
}
test_it_is_refused = refused(ANNOTATIONS | PREPARED | TRAINED | QUERIES | KEPT)


def test_a_bomb_goes_off_where_code_is_let_in(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb())).close()
    assert Path("exploded").exists()


UNSAFE = {
    r"(import|from)\s+(pickle|cPickle|cloudpickle|dill|joblib|shelve|marshal)\b": "import pickle",
    r"read_pickle": "pd.read_pickle(path)",
    r"allow_pickle\s*=\s*True": "np.load(path, allow_pickle=True)",
    r"torch\.load\((?!.*weights_only=True)": "torch.load(path)",
}


OWN = {  # a pool's processes read what the process that started them wrote, in a folder of its own
    ("engines.py", "import cloudpickle"),
    ("engines.py", "from joblib import Parallel, delayed"),
}


def test_no_module_notebook_or_benchmark_loads_a_pickle() -> None:
    assert all(re.search(pattern, example) for pattern, example in UNSAFE.items())
    files = [*NOTEBOOKS.values(), *(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    files += (ROOT / "benchmarks").glob("*.py")
    lines = [(file.name, line) for file in files for line in source(file).splitlines()]
    unsafe = lambda line: any(re.search(pattern, line) for pattern in UNSAFE)
    assert len(files) > 40 and {(name, line) for name, line in lines if unsafe(line)} == OWN
