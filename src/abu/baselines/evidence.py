"""What the methods of ``abu.baselines`` look at, computed when asked for; gradient features are
tasks that are kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from abu.baselines.coupling import among_images, coupling, damped_factor, gauss_newton_matrix
from abu.baselines.features import RANDOM, Features, Sketch, feature_task
from abu.core.attribution import Attribution, shards
from abu.data.images import Images
from abu.data.pictures import read_image
from abu.data.rows import Parts, column
from abu.diffusion.device import find_device
from abu.diffusion.embed import clip_images, clip_texts, dino_images
from abu.diffusion.sample import sample

GRADIENTS = {f"{name} gradients": name for name in ("loss", "square", "mean")}  # over timesteps
ROWS = {"loss rows": "loss", f"{RANDOM} rows": RANDOM}  # of each timestep


@dataclass(frozen=True)
class Seen:
    """What shows without asking the model: files and captions of the images, prompts and pictures
    [Q, 3, H, W] in [0, 1] of the queries; and the folder of the models, ``clip`` and ``dino``, that
    look at them."""

    files: list[str]
    captions: list[list[str]]
    prompts: list[str]
    pictures: Tensor
    models: Path
    background: str = "white"  # of transparent pictures


@dataclass
class Evidence:
    """Pairs (queries, training images) by name.

    ``once`` (seconds for the training images), ``each`` (seconds for the queries together) and
    ``storage`` (bytes that answering one more query needs) of what was asked for stand beside them.
    """

    shared: Attribution  # its weights and timesteps are those whose gradients are taken
    seen: Seen
    empty: Tensor  # token states of no caption, [L, D]
    sampler: dict  # how the queries were drawn: options of abu.diffusion.sample.sample
    dimension: int  # of the sketched gradients
    cotangents: int  # random ones of each image and timestep
    run: Callable  # (function, what tasks share, tasks, progress) -> their results, kept when done
    shard: int = 16  # images a task: so few that a few queries keep every process busy
    walked: int = 64  # images in memory at a time, a multiple of the shard
    once: dict[str, float] = field(default_factory=dict)
    each: dict[str, float] = field(default_factory=dict)
    storage: dict[str, int] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)  # seconds of feature tasks
    known: dict = field(default_factory=dict)

    def __call__(self, name: str):
        """Evidence of one name. Raises FileNotFoundError where a model is wanting."""
        if name not in self.known:
            images, queries, seen = self.shared.images, self.shared.queries, self.seen
            makers: dict[str, Callable] = {
                "names": lambda: queries.names,
                "ids": lambda: images.ids,
                "seed": lambda: self.shared.grid.seed,
                "pixels": lambda: (seen.pictures, self.pixels()),
                "latents": lambda: (queries.latents, column(images.latents)),
                "clip images": lambda: self.embedded(clip_images, "clip"),
                "dino images": lambda: self.embedded(dino_images, "dino"),
                "clip texts": self.texts,
                "words": self.words,
                "journey gradients": lambda: (self.journey(), self("loss gradients")[1]),
                "losses": lambda: torch.cat(list(self.images()("losses"))).mean(1),
                "gauss-newton matrix": lambda: gauss_newton_matrix(self.images()(RANDOM)),
                "factor": self.factor,
                "loss couplings": lambda: self.couplings("loss rows", name),
                "couplings": lambda: self.couplings(f"{RANDOM} rows", name),
                "image couplings": lambda: self.couplings(f"{RANDOM} rows", name, among_images),
            }
            makers |= {g: lambda g=g: self.gradients(g) for g in GRADIENTS}
            makers |= {r: lambda r=r: self.rows(ROWS[r]) for r in ROWS}
            begin = time.perf_counter()
            self.known[name] = makers[name]()
            self.each.setdefault(name, time.perf_counter() - begin)
            if isinstance(self.known[name], tuple) and name not in self.storage:
                self.storage[name] = self.known[name][1].nbytes
        return self.known[name]

    @property
    def device(self) -> torch.device:
        return find_device(self.shared.denoiser.device)

    def pixels(self) -> Parts:
        files, side = self.seen.files, self.seen.pictures.shape[-1]
        look = lambda file: torch.from_numpy(read_image(Path(file), side, self.seen.background))
        make = lambda first, last: torch.stack([look(f) / 2 + 0.5 for f in files[first:last]])
        return Parts(make, len(files))

    def embedded(self, embed: Callable, model: str) -> tuple[Tensor, Tensor]:
        folder, both = self.seen.models / model, (self.seen.pictures, self.pixels())
        return tuple(embed(folder, pixels, self.device) for pixels in both)

    def texts(self) -> tuple[Tensor, Tensor]:
        """Of the prompts, and of the first caption of each image."""
        clip, first = self.seen.models / "clip", [few[0] for few in self.seen.captions]
        return clip_texts(clip, self.seen.prompts), clip_texts(clip, first, self.device)

    def words(self) -> tuple[list[str], list[list[str]]]:
        captions = self.seen.captions
        self.storage["words"] = sum(len(text.encode()) for few in captions for text in few)
        return self.seen.prompts, captions

    def features(
        self, images: Images, path: list[int] | None = None
    ) -> tuple[Callable[[str], Parts], float]:
        """Features of images by name (``abu.baselines.features``), read from the finished tasks
        whenever walked through; and the seconds that the tasks took."""
        denoiser, grid = self.shared.denoiser, self.shared.grid
        sizes = {name: shape.numel() for name, shape in self.shared.shapes().items()}
        sketch = Sketch(sizes, self.dimension, grid.seed, self.device)
        cotangents = 0 if path else self.cotangents
        asked = Features(replace(denoiser, speed={}), sketch, grid.timesteps, grid.seed, cotangents)
        ranges = shards(len(images), self.shard).items()
        todo = {name: (read(images[first:last]), path) for name, (first, last) in ranges}
        done = list(self.run(feature_task, asked, todo, progress="gradients").values())

        def parts(name: str) -> Parts:
            tasks = lambda first, last: done[first // self.shard : -(-last // self.shard)]
            make = lambda *ends: torch.cat([task[name] for task in tasks(*ends)])
            return Parts(lambda *ends: make(*ends)[: ends[1] - ends[0]], len(images), self.walked)

        return parts, sum(result.seconds for result in done)

    def kept(self, name: str, images: Images) -> Callable[[str], Parts]:
        """``features``, whose tasks serve every method that asks for them."""
        if name not in self.known:
            self.known[name], self.spent[name] = self.features(images)
        return self.known[name]

    def images(self) -> Callable[[str], Parts]:
        return self.kept("features of images", self.shared.images)

    def rows(self, name: str) -> tuple[Tensor, Parts]:
        """Rows [Q, T, V, p] of the queries, and those of the images' random cotangents."""
        queries = self.kept("features of queries", self.shared.queries.images())
        own, images = torch.cat(list(queries(name))), self.images()(RANDOM)
        self.note(f"{name} rows")
        return own if name == RANDOM else own[:, :, None], images

    def gradients(self, name: str) -> tuple[Tensor, Parts]:
        """Means over timesteps: [Q, p], and [N, p] in parts."""
        queries = self.kept("features of queries", self.shared.queries.images())
        own, images = torch.cat(list(queries(GRADIENTS[name]))), self.images()(GRADIENTS[name])
        self.note(name)
        mean = lambda first, last: images.make(first, last).float().mean(1)
        return own.float().mean(1), Parts(mean, images.n, images.size)

    def note(self, name: str) -> None:
        """What features took, which one pass makes for all methods."""
        self.each[name] = self.spent["features of queries"]
        self.once[name] = self.spent["features of images"]

    def factor(self) -> Callable[[float], Tensor]:
        """By damping; of these large matrices the last one asked for is kept."""
        return lru_cache(1)(partial(damped_factor, self("gauss-newton matrix")))

    def couplings(
        self, rows: str, name: str, among: Callable | None = None
    ) -> Callable[[float], Tensor]:
        """By damping, each computed once: of queries with images, or of images among each other."""
        pair, factor = self(rows), self("factor")
        if among:  # whoever asks for these asks for those with queries too, which tell what it took
            return cache(lambda damping: among(pair[1], factor(damping)))
        self.note(name)
        self.once[name] += self.each["gauss-newton matrix"]  # of images alone
        self.storage[name] = self.storage[rows]
        return cache(lambda damping: coupling(pair, factor(damping)))

    def journey(self) -> Tensor:
        """Query features along the sampler's path: the loss gradient at step t of what that step
        takes for the picture."""
        queries, denoiser = self.shared.queries, self.shared.denoiser
        path: dict[int, Tensor] = {}
        names = [(self.shared.grid.seed, "query", name) for name in queries.names]
        shape, unet = tuple(queries.latents.shape[1:]), denoiser.unet.to(self.device)
        drawn = unet, denoiser.scheduler, queries.texts, self.empty, names, shape
        sample(*drawn, **self.sampler, observe=path.__setitem__)
        steps = torch.stack(list(path.values()), 1)  # [Q, T, c, h, w]
        ids = [f"journey {name}" for name in queries.names]
        images = Images(ids, steps[:, None], queries.texts[:, None])
        features, self.each["journey gradients"] = self.features(images, list(path))
        self.images()
        self.once["journey gradients"] = self.spent["features of images"]
        return torch.cat(list(features("loss"))).float().mean(1)


def read(images: Images) -> Images:
    """The first picture and every caption of each, in memory, with which a task can be sent
    anywhere."""
    texts = [images.texts[:, c] for c in range(images.texts.shape[1])]
    return Images(images.ids, images.latents[:, 0][:, None], torch.stack(texts, 1), images.counts)
