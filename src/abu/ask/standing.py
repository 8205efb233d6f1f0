"""Whether anything stands out: whether the model knows a picture at all.

The scores do not say it. They rank the training images of a photograph too, and how far the first
stands above the rest is the same there as of the model's own pictures. What tells them apart is
the denoising loss: the study's recorded queries, asked as the picture is (with a prompt or
without), bound it. Measured rates of error are in docs/ask.md (``benchmarks/standing.py``).
"""

from dataclasses import dataclass, replace
from functools import cached_property

from scipy.stats import t as student
from torch import Tensor

from abu.core.attribution import Attribution
from abu.data.queries import Queries

WRONG = 0.05
"""Share of the model's own pictures that may be flagged, were the logarithms of losses normal."""
MOST = 24
"""Queries that bound the loss."""


def upper_bound(losses: Tensor, wrong: float = WRONG) -> float:
    """Loss that a further picture like those of ``losses`` [n] exceeds with a probability of
    ``wrong``: the end of the prediction interval of a normal logarithm. Infinite for fewer than
    two."""
    if len(losses) < 2:
        return float("inf")
    logs = losses.double().log()
    factor = student.ppf(1 - wrong, len(logs) - 1) * (1 + 1 / len(logs)) ** 0.5
    return float((logs.mean() + factor * logs.std()).exp())


@dataclass(frozen=True)
class Standing:
    """What a model's own pictures cost it. ``shared``: the model and its grid; ``queries``:
    pictures that it drew; ``prompted``: which of them had a prompt, bool; ``empty`` [L, D]: token
    states of no caption."""

    shared: Attribution
    queries: Queries
    prompted: list[bool]
    empty: Tensor

    def losses(self, pictures: Queries) -> Tensor:
        """Loss [n] of each picture: a mean over timesteps, under noise of its name."""
        return replace(self.shared, queries=pictures).query_losses().mean(1)

    @cached_property
    def with_prompt(self) -> float:
        """Bound of a picture that is asked about with a prompt; without such queries, of all."""
        rows = [row for row, prompted in enumerate(self.prompted) if prompted][:MOST]
        rows = rows or list(range(len(self.queries)))[:MOST]
        names = [self.queries.names[row] for row in rows]
        latents, texts = self.queries.latents[rows], self.queries.texts[rows]
        return upper_bound(self.losses(Queries(names, latents, texts)))

    @cached_property
    def without(self) -> float:
        """Bound of a picture that is asked about without one."""
        names, latents = self.queries.names[:MOST], self.queries.latents[:MOST]
        texts = self.empty.expand(len(latents), *self.empty.shape)
        return upper_bound(self.losses(Queries(names, latents, texts)))

    def judge(self, name: str, latents: Tensor, text: Tensor, prompted: bool) -> tuple[bool, str]:
        """Whether nothing stands out of a picture [c, h, w], and why, in words."""
        bound = self.with_prompt if prompted else self.without
        loss = self.losses(Queries([name], latents[None], text[None])).item()
        nothing = loss > bound
        side = "above" if nothing else "below"
        kind = "with prompts" if prompted else "without a prompt"
        return nothing, f"loss {loss:.3g}, {side} {bound:.3g}, the bound of its own {kind}"
