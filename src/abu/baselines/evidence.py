"""What the methods of ``abu.baselines`` look at, computed when asked for; gradient features are kept tasks."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from abu.baselines.embed import clip_images, clip_texts, dino_images
from abu.baselines.features import Sketch, feature_task
from abu.core.jobs import Attributed, shards
from abu.data.pictures import read_image
from abu.data.rows import Parts, Rows, column
from abu.diffusion.components import Components
from abu.diffusion.device import find_device
from abu.diffusion.sample import sample

GRADIENTS = {"loss gradients": "loss", "square gradients": "square", "mean gradients": "mean"}


@dataclass
class Evidence:
    """Pairs (queries, training images) by name. ``once`` (seconds for the training images), ``each`` (seconds for the queries
    together) and ``storage`` (bytes that answering one more query needs) of what was asked for so far stand beside them."""

    shared: Attributed  # its ``weights`` are those whose gradients are taken
    components: Components
    files: list[str]  # of the training images
    captions: list[list[str]]  # of the training images
    prompts: list[str]
    pictures: Tensor  # of the queries, [Q, 3, H, W] in [0, 1]
    empty: Tensor  # [L, D]
    sampler: dict
    dimension: int
    clip: str
    dino: str | None
    run: Callable  # (function, what tasks share, tasks, progress) -> their results, kept when done
    shard: int = 64
    once: dict[str, float] = field(default_factory=dict)
    each: dict[str, float] = field(default_factory=dict)
    storage: dict[str, int] = field(default_factory=dict)
    found: dict = field(default_factory=dict)

    def __call__(self, name: str):
        """Evidence of one name. Raises ValueError for a model that the params do not name."""
        if name not in self.found:
            makers: dict[str, Callable] = {
                "names": lambda: self.shared.queries[2],
                "ids": lambda: self.shared.ids,
                "seed": lambda: self.shared.seed,
                "pixels": lambda: (self.pictures, self.pixels()),
                "latents": lambda: (self.shared.queries[0], column(self.shared.latents)),
                "clip images": lambda: self.embedded(clip_images, self.clip),
                "dino images": lambda: self.embedded(dino_images, self.dino),
                "clip texts": self.texts,
                "journey gradients": lambda: (self.journey(), self("loss gradients")[1]),
                "losses": lambda: self.losses_of("mean gradients"),
            }
            makers |= {name: lambda name=name: self.gradients(name) for name in GRADIENTS}
            begin = time.perf_counter()
            self.found[name] = makers[name]()
            self.each.setdefault(name, time.perf_counter() - begin)
            if isinstance(self.found[name], tuple):
                self.storage[name] = self.found[name][1].nbytes
        return self.found[name]

    def pixels(self) -> Parts:
        read = lambda file: (
            torch.from_numpy(read_image(Path(file), self.pictures.shape[-1])) / 2 + 0.5
        )
        return Parts(
            lambda first, last: torch.stack([read(file) for file in self.files[first:last]]),
            len(self.files),
        )

    def embedded(self, embed: Callable, source: str | None) -> tuple[Tensor, Tensor]:
        if not source:
            raise ValueError(f"{embed.__name__} needs a model folder or hub name in the params")
        return tuple(
            embed(source, pixels, find_device(self.shared.device))
            for pixels in (self.pictures, self.pixels())
        )

    def texts(self) -> tuple[Tensor, Tensor]:
        flat = [caption for captions in self.captions for caption in captions]
        images = clip_texts(self.clip, flat, find_device(self.shared.device))
        return clip_texts(self.clip, self.prompts), images.reshape(
            len(self.captions), -1, images.shape[-1]
        )

    def tasks(
        self, function: str, x0: Tensor | Rows, texts: Tensor | Rows, names: list[tuple]
    ) -> tuple[Parts, float]:
        """Features and losses [n, p + 1] of images [n, 1 or more, ...], the first of each, read from the finished tasks whenever walked
        through; and the seconds that they took."""
        s = self.shared
        sizes = {name: s.unet.get_parameter(name).numel() for name in s.weights}
        common = {
            "unet": s.unet.to(find_device(s.device)).requires_grad_(False),
            "scheduler": s.scheduler,
            "weights": s.weights,
            "sketch": Sketch(sizes, self.dimension, s.seed, find_device(s.device)),
            "timesteps": s.timesteps,
            "seed": s.seed,
        }
        for name in s.weights:
            s.unet.get_parameter(name).requires_grad_(True)
        todo = {}
        for name, (first, last) in shards(len(names), self.shard).items():
            rows = list(range(first, last))
            todo[name] = (function, x0[rows], texts[rows], names[first:last])
        done = list(self.run(feature_task, common, todo, progress=f"{function} gradients").values())
        make = lambda first, last: done[first // self.shard].value[: last - first]
        return Parts(make, len(names), self.shard), sum(d.seconds for d in done)

    def gradients(self, name: str) -> tuple[Tensor, Parts]:
        z, texts, names = self.shared.queries
        queries, self.each[name] = self.tasks(
            GRADIENTS[name], z[:, None], texts[:, None], [(f"query {n}",) for n in names]
        )
        images, self.once[name] = self.image_features(name)
        features = Parts(
            lambda first, last: images.make(first, last)[:, :-1], images.n, images.size
        )
        return torch.cat(list(queries))[:, :-1], features

    def image_features(self, name: str) -> tuple[Parts, float]:
        s = self.shared
        return self.tasks(GRADIENTS[name], s.latents, s.texts, [(id,) for id in s.ids])

    def losses_of(self, name: str) -> Tensor:
        return torch.cat([part[:, -1] for part in self.image_features(name)[0]])

    def journey(self) -> Tensor:
        """Query features along the sampler's path: the loss gradient at step t of what that step takes for the picture."""
        z, texts, names = self.shared.queries
        path: dict[int, Tensor] = {}
        unet = self.shared.unet.to(find_device(self.shared.device))
        named = [(self.shared.seed, "query", name) for name in names]
        sample(
            unet,
            self.shared.scheduler,
            texts,
            self.empty,
            named,
            tuple(z.shape[1:]),
            **self.sampler,
            observe=path.__setitem__,
        )
        steps = torch.stack(list(path.values()), 1)  # [Q, T, c, h, w]
        rows = [(f"journey {name}", *path) for name in names]
        features, self.each["journey gradients"] = self.tasks(
            "loss", steps[:, None], texts[:, None], rows
        )
        self.once["journey gradients"] = self.image_features("loss gradients")[1]
        return torch.cat(list(features))[:, :-1]
