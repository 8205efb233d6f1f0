"""The files in which a customized model is kept, by diffusers or by Custom Diffusion's own code:
weights of cross-attention and embeddings of new tokens; nothing but tensors is read."""

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from abu.data.checks import check_finite
from abu.data.files import write_atomically
from abu.data.readers import Tensors, read_tensors
from abu.diffusion.components import Components
from abu.diffusion.unet import select_weights

WEIGHTS = "pytorch_custom_diffusion_weights"
SUFFIXES = (".safetensors", ".bin", ".pt", ".ckpt")
PROCESSOR = re.compile(r"processor\.to_(k|v|q|out)_custom_diffusion\.")  # in diffusers' names
OWN = re.compile(r"\.attn2\.to_(k|v|q|out\.0)\.(weight|bias)$")  # in those of the U-Net itself
BLOCK = re.compile(
    r"(input|output)_blocks\.(\d+)\.1\.|middle_block\.1\."
)  # in those of its ancestor
EXPECTED = (
    f"expected a file {WEIGHTS} and <new1> (.safetensors, .bin or .pt), or one delta*.bin or .ckpt "
    "of Custom Diffusion's own code"
)


def merge(unet, weights: Tensors) -> None:
    """Put customized weights in the place of the U-Net's own. Raises ValueError for a weight that
    it lacks or of another shape."""
    params = dict(unet.named_parameters())
    for name, value in weights.items():
        shape = tuple(params[name].shape) if name in params else "no such weight"
        if shape != tuple(value.shape):
            raise ValueError(
                f"customized weight {name} has the shape {tuple(value.shape)}; the model has "
                f"{shape}"
            )
        check_finite(f"customized weight {name}", value)
    with torch.no_grad():
        for name, value in weights.items():
            params[name].copy_(value)


def save_customized(
    folder: Path, unet, components: Components, tokens: Iterable[str], more: Iterable[str] = ()
) -> None:
    """Keys and values, and ``more`` weights of cross-attention, as diffusers saves Custom
    Diffusion, and each token's embedding as it saves textual inversions."""
    weights, names = {}, select_weights(unet, "cross-attn-kv")
    for name in [*names, *(name for name in more if name not in names)]:
        layer, suffix = name.split(".to_")  # suffix: k.weight, out.0.bias
        suffix = suffix.replace(".", "_custom_diffusion.", 1)
        weights[f"{layer}.processor.to_{suffix}"] = (
            unet.get_parameter(name).detach().cpu().contiguous()
        )
    write_atomically(folder / f"{WEIGHTS}.safetensors", lambda file: save_file(weights, file))
    embeddings = components.text_encoder.get_input_embeddings().weight
    for token in tokens:
        number = components.tokenizer.convert_tokens_to_ids(token)
        tensors = {token: embeddings[number].detach().cpu().clone()}
        write_atomically(
            folder / f"{token}.safetensors", lambda file, tensors=tensors: save_file(tensors, file)
        )


def load_customized(path: Path, layers: int = 2) -> tuple[Tensors, Tensors]:
    """Customized weights, float32, by the U-Net's own names, and the embedding [D] of each new
    token.

    ``path``: a folder as diffusers saves it (``pytorch_custom_diffusion_weights``, ``<new1>``), its
    weights also under the U-Net's own names; or a file of Custom Diffusion's own code, or the
    folder of one: ``{"unet", "modifier_token"}``, or ``{"state_dict"}`` in the names of the
    original U-Net of ``layers`` layers a block, with ``embed`` [n, D] of <new1> to <newn>.

    Raises FileNotFoundError for a part that is missing, ValueError for files of another form,
    weights that are not cross-attention's, or a token that is there twice.
    """
    file, tokens = find(path)
    content = read_tensors(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file} is a {type(content).__name__} of tensors; {EXPECTED}")
    weights, vectors = content, {}
    if "state_dict" in content:
        weights = dict(content["state_dict"])
        rows = weights.pop("embed", torch.zeros(0, 0))
        if getattr(rows, "ndim", 0) != 2:
            found = tuple(getattr(rows, "shape", ()))
            raise ValueError(f"{file}: embed has the shape {found}; expected [tokens, width]")
        vectors = {f"<new{number}>": row for number, row in enumerate(rows, 1)}
    elif "unet" in content:
        if more := content.keys() - {"unet", "modifier_token"}:
            raise ValueError(f"{file} has {sorted(more)} too; expected unet and modifier_token")
        weights, vectors = content["unet"], content.get("modifier_token", {})
    for place in tokens:
        found = read_tensors(place)
        if list(found) != [place.stem] or place.stem in vectors:
            raise ValueError(
                f"{place}: found the tokens {list(found)} beside {list(vectors)}; expected "
                f"{place.stem} once"
            )
        vectors = vectors | found
    # processors without weights of their own leave an empty entry
    weights = {
        own_name(file, n, layers): w for n, w in weights.items() if isinstance(w, Tensor) or w
    }
    for name, value in {**weights, **vectors}.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{file}: {name} is a {type(value).__name__}; expected a tensor")
    if not weights or not vectors:
        raise FileNotFoundError(
            f"{path} has {len(weights)} weights and the tokens {list(vectors)}; {EXPECTED}"
        )
    flat = {token: value.detach().float().flatten() for token, value in vectors.items()}
    return {name: value.detach().float() for name, value in weights.items()}, flat


def find(path: Path) -> tuple[Path, list[Path]]:
    """The file of weights, and those of tokens, of a customized model."""
    if path.is_file():
        return path, []
    files = [f for suffix in SUFFIXES for f in sorted(path.glob(f"*{suffix}"))]
    weights = [f for f in files if f.stem == WEIGHTS][:1] or [f for f in files if "delta" in f.stem]
    if not weights:
        raise FileNotFoundError(f"{path} is no customized model: {EXPECTED}")
    if len(weights) > 1:
        raise ValueError(f"{path} has several deltas: {[f.name for f in weights]}; expected one")
    tokens = {f.stem: f for f in reversed(files) if re.fullmatch("<.*>", f.stem)}
    return weights[0], [tokens[token] for token in sorted(tokens)]


def own_name(file: Path, name: str, layers: int) -> str:
    """A weight's name in diffusers' U-Net, of its name in a file. Raises ValueError for one that is
    not cross-attention's."""

    def block(found: re.Match) -> str:
        side, number = found[1], int(found[2] or 0)
        if side is None:
            return "mid_block.attentions.0."
        number -= side == "input"  # the first one takes the latents
        level, layer = divmod(number, layers + 1)
        return f"{'down' if side == 'input' else 'up'}_blocks.{level}.attentions.{layer}."

    key = BLOCK.sub(block, PROCESSOR.sub(r"to_\1.", name.removeprefix("model.diffusion_model.")))
    if not OWN.search(key):
        raise ValueError(
            f"{file} has an entry {name}; expected those of Custom Diffusion, cross-attention's "
            "attn2.to_k.weight and attn2.to_v.weight"
        )
    return key
