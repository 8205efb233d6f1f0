"""Memory and time of the stages as the images grow to MSCOCO's number, 118,287 of 5 captions, and 8
queries, on tiny tensors: what grows with N, and nothing else.

``python benchmarks/memory.py [--images N ...]`` makes, for each of several N, a COCO folder whose
records share one picture and a model of a few thousand parameters in a temporary folder, and runs
the real stages there. Writes ``benchmarks/memory.csv``, of each stage and N the peak of resident
memory, the seconds, what is left on disk and what the plan says of that, and ``docs/growth.png``;
prints the exponent with which seconds, less those of the fewest images, grow from the last but one
N to the last. Exits with an error where a stage needs 4 GB or more.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from diffusers import AutoencoderKL, DDIMScheduler
from PIL import Image
from ruamel.yaml import YAML
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from abu import ROOT
from abu.data.files import write_json
from abu.report.lines import curves
from abu.report.style import save
from abu.study import costs

COCO, CAPTIONS, QUERIES, LIMIT = 118_287, 5, 8, 4e9
COLUMNS = ["GB", "seconds", "disk MB", "planned MB"]
STAGES = ("prepare", "train", "generate", "cache", "unlearn", "influence", "compare")


def components(folder: Path) -> None:
    """A tiny model's frozen parts: 4 x 4 latents of 8 x 8 pixels, 8 tokens of width 8."""
    tokenizer = CLIPTokenizer.from_pretrained(
        ROOT / "data/components/tokenizer", model_max_length=8
    )
    tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    sizes |= {"vocab_size": len(tokenizer), "max_position_embeddings": 8, "num_attention_heads": 1}
    text = CLIPTextModel(CLIPTextConfig(**sizes, **tokens))
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=8,
    )
    parts = {"tokenizer": tokenizer, "text_encoder": text, "vae": vae, "scheduler": DDIMScheduler()}
    for name, part in parts.items():
        part.save_pretrained(folder / name)


def coco(folder: Path, n: int) -> None:
    """Annotations of ``n`` images, all of one file."""
    (folder / "images").mkdir(parents=True)
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(folder / "images/one.png")
    images = [{"id": i, "file_name": "one.png"} for i in range(n)]
    caption = lambda i, c: {"image_id": i, "caption": f"caption {c} of picture {i}"}
    annotations = [caption(i, c) for i in range(n) for c in range(CAPTIONS)]
    content = {"images": images, "annotations": annotations}
    (folder / "captions.json").write_text(json.dumps(content))


def params(n: int) -> dict:
    """Parameters of tests, of which only what a tiny model needs is changed."""
    found = YAML(typ="safe").load(ROOT / "tests/params.yaml")
    found["systems"] = {"base": {"kind": "base"}}
    found["prepare"] |= {"annotations": "coco/captions.json", "images": "coco/images"}
    found["prepare"] |= {"keep": {}, "side": 8}
    found["train"] |= {"steps": 20, "heldout": 100, "checkpoint_every": 20}
    unet = {"block_out_channels": [8, 8], "attention_head_dim": 1, "norm_num_groups": 2}
    found["train"]["unet"] |= unet
    prompts = [f"caption 0 of picture {i}" for i in range(QUERIES)]
    found["generate"]["prompts"] = {"plain": prompts}
    found["components"]["source"] = "results/components/model"  # where the plan reads configs
    found["cache"] |= {"store": 32, "cotangents": 1, "fisher_draws": 1, "timesteps": [500]}
    found["cache"] |= {"captions": CAPTIONS, "shard": 5000, "batch_size": 2048}
    found["unlearn"] |= {"steps": 1, "relative_norm": 0.05, "damping": 0.1, "regions": {}}
    found["unlearn"] |= {"batch_size": 2048}
    found["influence"] |= {"probes": 1, "candidates": 0.1, "batch_size": 2048}
    found["compare"] |= {"methods": ["random", "pixel", "latent", "d-trak"]}
    found["compare"]["settings"] = {"d-trak": {"ridge": 1.0}}
    features = {"weights": "cross-attn-kv", "dimension": 64, "cotangents": 0, "timesteps": [500]}
    found["compare"]["features"] = features
    return found


def measure(n: int) -> pd.DataFrame:
    """Of each stage with ``n`` images, as the runner keeps them: peak resident bytes, seconds,
    bytes left on disk, and how many of these were planned."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in ("notebooks", "src"):
            shutil.copytree(ROOT / part, root / part)
        components(root / "results/components/model")
        coco(root / "coco", n)
        with (root / "params.yaml").open("w") as file:
            YAML(typ="safe").dump(params(n), file)
        chosen = dict.fromkeys(("abu", "abu-plus"), {"relative_norm": 0.05, "damping": 0.1})
        write_json(root / "results/tune/base/chosen.json", chosen)
        environment = {**os.environ, "PYTHONPATH": str(root / "src")}
        for stage in (*STAGES, "plan"):
            print(n, stage, flush=True)
            command = [sys.executable, "-m", "abu.study.run", stage]
            options = {"cwd": root, "env": environment, "stderr": subprocess.DEVNULL}
            subprocess.run(command, check=True, **options)
        table = costs.read(root / costs.STAGES, costs.STAGE, costs.MEASURED)
        plan = costs.read(root / "results/plan/plan.csv", costs.STAGE, ["disk"]).disk
        return table.assign(planned=plan.astype(float)).droplevel("system").loc[list(STAGES)]


def exponents(seconds: pd.DataFrame) -> pd.Series:
    """By stage, how seconds grow between the two largest N, beyond those of the fewest images (what
    starting takes); ``seconds``: a column for each N."""
    first, *_, middle, last = sorted(seconds)
    above = np.log((seconds[last] - seconds[first]) / (seconds[middle] - seconds[first]))
    return above / np.log((last - first) / (middle - first))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, COCO])
    sizes = parser.parse_args().images
    if len(set(sizes)) < 3:
        parser.error(f"--images {sizes}: expected three numbers or more, to see how time grows")
    table = pd.concat({n: measure(n) for n in sorted(sizes)}, names=["images"])
    table["GB"], table["seconds"] = (table.peak_bytes / 1e9).round(2), table.seconds.round(1)
    table["disk MB"], table["planned MB"] = table.disk_bytes / 1e6, table.planned / 1e6
    table[COLUMNS].round(2).to_csv(ROOT / "benchmarks/memory.csv")
    seconds = table.seconds.unstack("images").loc[list(STAGES)]
    lines = {stage: seconds.loc[stage].to_numpy() for stage in STAGES}
    figure = curves(np.array(sorted(sizes)), lines, "images", "seconds", log=True, x_log=True)
    save(figure, ROOT / "docs/growth.png")
    print(table[COLUMNS].round(1).unstack("images").to_string())
    print(exponents(seconds).round(2).to_string())
    if (table.peak_bytes >= LIMIT).any():
        most = table.peak_bytes.max() / 1e9
        sys.exit(f"a stage needs {most:.2f} GB; expected below {LIMIT / 1e9:.0f}")


if __name__ == "__main__":
    main()
