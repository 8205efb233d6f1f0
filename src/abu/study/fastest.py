"""Measure how many rows a pass should take on this machine: ``python -m abu.study.fastest``.

Times losses and per-example gradients of the trained model, on the device and threads of a task, in
batches that grow until two sizes in a row bring nothing. Writes ``scratch/batch.json``, which
``batch_size: auto`` reads (``abu.study.batch``).
"""

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from abu.core.fisher import fisher_diagonal
from abu.data.files import write_json
from abu.data.images import Images
from abu.diffusion.denoiser import Denoiser
from abu.diffusion.device import use_device
from abu.diffusion.grid import Grid
from abu.diffusion.losses import loss_table
from abu.diffusion.unet import select_weights
from abu.study.batch import KEPT, place, threads_of
from abu.study.commands import command
from abu.study.folders import read_json, read_yaml
from abu.study.system import load_system

SIZES = tuple(2**power for power in range(3, 12))
TIMES, ROWS, ROUNDS = 8, 256, 2  # timesteps of an image; at least so many rows are timed, twice


def tried(seconds: Callable[[int], float], sizes: Iterable[int] = SIZES) -> dict[int, float]:
    """``seconds`` a row by size: growing ones, until two in a row are slower than the best or
    memory ends. Raises what ``seconds`` raises at the first size, or of another kind."""
    found: dict[int, float] = {}
    for size in sizes:
        try:
            found[size] = seconds(size)
        except (MemoryError, RuntimeError) as error:  # torch's OutOfMemoryError is of the latter
            if not found or "memory" not in f"{type(error).__name__} {error}".lower():
                raise
            break
        if len(found) > 2 and min([*found.values()][-2:]) > min(found.values()):
            break
    return found


def seconds_a_row(denoiser: Denoiser, images: Images) -> Callable[[int], float]:
    """By batch size, of one loss and one gradient together: the fastest of some rounds."""
    grid = Grid(range(50, 1000, 1000 // TIMES), captions=1)

    def seconds(size: int) -> float:
        some = images[: max(size, ROWS) // TIMES]
        asked, took = replace(denoiser, batch_size=size), []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            loss_table(asked, some, grid)
            fisher_diagonal(asked, some, TIMES)  # float64 sums: nothing is left to wait for
            took.append(time.perf_counter() - begin)
        return min(took) / (len(some) * TIMES)

    return seconds


def main() -> None:
    common = read_yaml(Path("params.yaml"))["common"]
    device = use_device(common["device"], threads_of(common))
    system = load_system(device=device)
    speed = {name: common[name] for name in ("precision", "compile", "channels_last")}
    weights = select_weights(system.unet, "cross-attn-kv")
    given = system.unet, system.components.scheduler, weights, str(device)
    latents, texts = system.images.latents[:, :1], system.images.texts[:, :1]
    images = Images(system.images.ids, latents, texts)
    found = tried(seconds_a_row(Denoiser(*given, speed=speed), images))
    rates = {str(size): round(1 / seconds, 1) for size, seconds in found.items()}
    best, root = min(found, key=found.__getitem__), Path.cwd()
    known = read_json(KEPT) if KEPT.exists() else {}
    here = {place(common, root): {"batch_size": best, "rows a second": rates}}
    write_json(KEPT, known | here)
    print(f"batch_size: {best} rows are fastest here; rows a second: {rates}", file=sys.stderr)


if __name__ == "__main__":
    command(main, __doc__)
