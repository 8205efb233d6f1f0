"""The published benchmark of customized models, small, with models as diffusers saved them."""

import copy
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import CustomDiffusionAttnProcessor
from helpers import picture

from abu.diffusion.components import Components
from abu.diffusion.customize import class_vector
from abu.diffusion.noise import normals, stream

PROMPTS = {  # model -> train prompt, category, test case
    "bamfg/101549_0": ("A picture in the style of <new1> art", "art", "test_bamfg"),
    "imagenet/n01440764_0000": ("<new1> fish", "fish", "test_unobserved_imagenet"),
}


def published_by_diffusers(
    unet: UNet2DConditionModel, folder: Path, vector: torch.Tensor, safe: bool
) -> UNet2DConditionModel:
    """Write a customized model with diffusers alone, as its training script of 2023 did; the model
    that was saved."""
    model, processors = copy.deepcopy(unet), {}
    for name in model.attn_processors:
        layer = model.get_submodule(name.removesuffix(".processor"))
        if "attn2" not in name:
            processors[name] = CustomDiffusionAttnProcessor(train_kv=False, train_q_out=False)
            continue
        hidden, text = layer.to_k.weight.shape
        sizes = {"hidden_size": hidden, "cross_attention_dim": text}
        custom = CustomDiffusionAttnProcessor(train_kv=True, train_q_out=False, **sizes)
        old = {"to_k_custom_diffusion": layer.to_k, "to_v_custom_diffusion": layer.to_v}
        for part, weight in ((part, layer.weight) for part, layer in old.items()):
            draw = stream("published", name, part)
            noise = torch.from_numpy(draw.standard_normal(weight.shape, dtype=np.float32))
            getattr(custom, part).weight.data = weight + 0.1 * noise
        processors[name] = custom
    model.set_attn_processor(processors)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_attn_procs(folder, safe_serialization=safe)
    torch.save({"<new1>": vector}, folder / "<new1>.bin")
    return model


def benchmark(root: Path, unet: UNet2DConditionModel, components: Components) -> list[dict]:
    """Two models, 12 distractors. The rows of its task list."""
    rows = []
    for number, (name, (prompt, category, case)) in enumerate(PROMPTS.items()):
        paths = [f"exemplar/{name}/{i}.png" for i in range(1 + 2 * (category == "art"))]
        for i, path in enumerate(paths):
            picture(root / path, name, i, mode=("L", "RGBA", "RGB")[i])  # photographs: all modes
        (root / "json").mkdir(exist_ok=True)
        cases = [{"exemplar": []}] * number + [{"exemplar": [f"dataset/{path}" for path in paths]}]
        (root / "json" / f"{case}.json").write_text(json.dumps(cases))
        vector = class_vector(components, "cat")
        published_by_diffusers(unet, root / "models" / name, vector, safe=False)
        if number:  # as its authors wrote them: under the U-Net's own names
            old = root / "models" / name / "pytorch_custom_diffusion_weights.bin"
            weights = {
                key.replace("processor.", "").replace("_custom_diffusion", ""): value
                for key, value in torch.load(old).items()
                if isinstance(value, torch.Tensor)
            }
            torch.save(weights, old.with_suffix(".pt"))
            old.unlink()
            second = class_vector(components, "dog")[None]  # as textual inversions may be saved
            torch.save({"<new2>": second}, old.with_name("<new2>.bin"))
        facts = {"test_case": case, "test_case_ind": number, "model_path": f"models/{name}"}
        facts |= {"train_prompt": prompt, "category": category, "prompt": f"{prompt} at night"}
        for i in range(2):
            path = f"synth/{name}/samples/{i:05d}.png"
            picture(root / path, "synth", name, i)
            rows.append({"synth_image_path": path, **facts})
    for i in range(12):
        picture(root / "laion_subset" / f"{i:05d}.jpg", "laion", i)
    np.save(
        root / "laion_latents.npy", normals((4, 8, 8), [("laion", i) for i in range(24)]).half()
    )
    texts = components.texts([f"caption {i}" for i in range(12)])
    np.save(root / "laion_text_embeddings.npy", texts)
    (root / "all_tasks.json").write_text(json.dumps(rows))
    return rows
