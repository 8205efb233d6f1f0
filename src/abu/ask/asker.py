"""A study in memory that answers questions about pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from abu.ask.asked import check_asked
from abu.ask.guess import best_caption
from abu.ask.questions import Question, read_question
from abu.ask.scores import Scores, from_store, left_out
from abu.ask.standing import Standing
from abu.core.attribution import move_of, rescore, unit_moves
from abu.core.fisher import query_gradient
from abu.core.store import Basis
from abu.core.unlearn import Newton, norm
from abu.data.queries import Queries
from abu.data.readers import Tensors
from abu.judge.errors import reduced
from abu.judge.ranking import rank
from abu.study.caching import Cached
from abu.study.folders import BASE, results
from abu.study.system import System

CANDIDATES = 30
"""Images that ``exact`` scores by the finite step, at least; thrice as many as are shown."""


@dataclass(frozen=True)
class Reply:
    """What a study says of a picture.

    ``table``: rank (from 1), id, score, standard_error (``abu.ask.scores``), caption and file of
    each image that is named, the most responsible first. ``nothing``: that nothing stands out;
    ``why``: in words (``abu.ask.standing``).
    """

    question: Question
    table: pd.DataFrame
    nothing: bool
    why: str


@dataclass(frozen=True)
class Move:
    """How the weights unlearn a picture: ``whole`` [*shape] by weight and its relative norm,
    ``length``; and ``units`` [1 + G, *shape], the direction and those without each draw of the
    gradient, as long as the weights; empty where no store is asked."""

    whole: Tensors
    length: float
    units: Tensors


@dataclass(frozen=True)
class Asker:
    """A system and its cache in memory, and how a picture is unlearned: ``newton``, with ``draws``
    noises for each timestep of the gradient. ``store`` [N, F, C, T, 1 + cotangents, p] with its
    ``basis``, or None: then only exact answers are given. ``root``: of the study."""

    root: Path
    system: System
    cached: Cached
    newton: Newton
    draws: int
    flips: str
    standing: Standing
    store: np.ndarray | None = None
    basis: Basis | None = None

    def ask(
        self,
        pictures: Sequence[str | Path],
        prompts: Sequence[str] = (),
        region: Sequence[float] | None = None,
        exact: bool = False,
        top: int = 10,
        guess: bool = False,
    ) -> list[Reply]:
        """A reply to each of the pictures; none depends on the others.

        ``prompts``: none, one for all, or one for each. ``region``: left, top, right, bottom as
        fractions of each picture, which alone is asked about; the flag is of the whole. ``exact``:
        the best candidates of the store are scored by AbU's finite step and ranked by that, and
        without a store all images are. ``guess``: a picture without a prompt is asked about with
        the training caption that fits it best (``abu.ask.guess``).

        Raises ValueError for what cannot be asked (``check_asked``, ``read_question``) and for no
        image to name, FileNotFoundError for a missing picture.
        """
        files = [Path(file) for file in pictures]
        prompt_of_each = check_asked(files, prompts)
        if top < 1:
            raise ValueError(f"top is {top}; expected 1 or more")
        if self.store is None and not exact:
            why = "cache.store is 0" if self.system.name == BASE else "no customized model has one"
            raise ValueError(
                f"{results('cache', self.system.name)} has no store ({why}): ask with "
                f"exact, which takes the finite step on all {len(self.system.images)} images"
            )
        read = partial(read_question, self.system, region=region)
        questions = [read(file, prompt) for file, prompt in zip(files, prompt_of_each)]
        if guess:
            questions = [self.guessed(q) if q.prompt is None else q for q in questions]
        moves = [self.move(question) for question in questions]
        rows = [list(range(len(self.system.images)))] * len(files)
        if self.store is None:
            scored = list(map(self.finite, moves, rows))
        else:
            coordinates = [self.basis.of(move.units) for move in moves]
            lengths, dims = [move.length for move in moves], questions[0].latents.numel()
            scored = from_store(self.store, coordinates, lengths, dims, self.flips)
            if exact:
                rows = [rank(s.values.numpy())[: max(CANDIDATES, 3 * top)].tolist() for s in scored]
                scored = list(map(self.finite, moves, rows, scored))
        return [self.reply(*one, top) for one in zip(questions, rows, scored)]

    def guessed(self, question: Question) -> Question:
        """A picture with the caption that fits it best for its prompt."""
        captions = self.system.table.caption.astype(str).tolist()
        shared = self.cached.attribution
        caption, text = best_caption(shared, captions, question.name, question.latents)
        return replace(question, prompt=caption, text=text, guessed=True)

    def move(self, question: Question) -> Move:
        """How the weights unlearn a picture, or the region of it."""
        shared, newton = self.cached.attribution, self.newton
        units: Tensors = {}
        if self.store is not None:
            draws = left_out(self.gradients(question))
            units = unit_moves(shared, draws, newton.curvature, newton.damping)
            if newton.relative_norm is not None and newton.steps == 1:
                whole = {name: newton.relative_norm * unit[0] for name, unit in units.items()}
                return Move(whole, newton.relative_norm, units)
        regions = () if question.region is None else (question.region,)
        query = [question.name], question.latents[None], question.text[None], regions
        whole = move_of(replace(shared, queries=Queries(*query)), 0, newton)
        return Move(whole, norm(whole) / shared.length(), units)

    def gradients(self, question: Question) -> Tensors:
        """Gradients of a picture's loss by weight, [G, *shape]: each of one noise a timestep."""
        shared, (x, text) = self.cached.attribution, (question.latents, question.text)
        key, times = (shared.grid.seed, "ask", question.name), shared.grid.timesteps
        one = lambda draw: (x, text, (*key, draw), times, 1, question.region)
        drawn = [query_gradient(shared.denoiser, *one(draw))[1] for draw in range(self.draws)]
        return {name: torch.stack([each[name] for each in drawn]) for name in drawn[0]}

    def finite(self, move: Move, rows: list[int], known: Scores | None = None) -> Scores:
        """Scores of the images in ``rows`` by AbU's finite step. What the query's noise does to
        them is taken from the store's answer, ``known``, and from nowhere without one."""
        after = rescore(self.cached.attribution, rows, move.whole)["losses"]
        counts = self.system.images.counts
        has = None if counts is None else counts[rows]
        values, image = reduced((after - self.cached.losses[rows]).double(), self.flips, has)
        query = torch.zeros_like(image) if known is None else known.query[rows]
        return Scores(values, query, image)

    def reply(self, question: Question, rows: list[int], scores: Scores, top: int) -> Reply:
        """The ``top`` of the images in ``rows`` by their scores."""
        best = rank(scores.values.numpy())[:top].tolist()
        chosen = [rows[place] for place in best]
        images, ids = self.system.table.iloc[chosen], self.system.images.ids
        columns = {
            "rank": range(1, len(best) + 1),
            "id": [ids[row] for row in chosen],
            "score": scores.values[best].numpy(),
            "standard_error": scores.errors[best].numpy(),
            "caption": images.caption.astype(str).tolist(),
            "file": images.file.tolist(),
        }
        prompted = question.prompt is not None and not question.guessed
        text = question.text if prompted else self.system.empty  # a fitting caption lowers any loss
        known = self.standing.judge(question.name, question.latents, text, prompted)
        return Reply(question, pd.DataFrame(columns), *known)
