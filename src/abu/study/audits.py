"""Whether to believe a recorded bank: some of it trained again here, and compared."""

from dataclasses import dataclass

import numpy as np

from abu.diffusion.replay import check_replay
from abu.judge.bank import Bank
from abu.judge.retrain import Retraining, answer, retrain
from abu.study.banks import Asked
from abu.study.engines import Engine
from abu.study.tasks import run_tasks


def replayed(bank: Bank, shared: Retraining, steps: int) -> tuple[str, float]:
    """Train the first steps again of a recorded model that went without some images: its name, and
    the largest relative difference of a loss. Raises ValueError for more than
    ``abu.diffusion.replay`` allows."""
    row = bank.models.index[~bank.kept.all(1)][0]
    name = bank.models.name[row]
    again = retrain(shared, bank.removed(row), int(bank.models.seed[row]), stop=steps)["training"]
    file = bank.folder / "models" / f"{name}.npz"
    return name, check_replay(file, bank.training[row], again)


@dataclass(frozen=True)
class Audit:
    """A recorded half that was trained again, whole: losses [A] of what it was asked less their
    means over all models of the bank, as ``recorded`` and as ``trained`` here, and ``facts``: how
    far they agree."""

    name: str
    recorded: np.ndarray
    trained: np.ndarray
    facts: dict


def shared_pictures(bank: Bank, asked: Asked) -> tuple[list[int], list[int]]:
    """Numbers of the pictures that a study asks about and that a bank was asked about too, in the
    study and in the bank: queries by name and to the bit, images by their id."""
    queries, names = asked.questions.queries, asked.facts["asked"]
    known = bank.judged(queries.names, queries.latents.numpy()).tolist()
    first = len(bank.queries)
    place = {name: first + n for n, name in enumerate(bank.facts["asked"][first:])}
    rows = known + [place.get(name, -1) for name in names[len(known) :]]
    here = [n for n, row in enumerate(rows) if row >= 0]
    return here, [rows[n] for n in here]


def audited(bank: Bank, asked: Asked, number: int, engine: Engine) -> Audit:
    """Train recorded half number ``number`` (modulo their count) from scratch and ask it, as
    ``record`` did; beside it stands what another seed makes of the same half, where one was
    recorded. Raises ValueError for fewer than 3 pictures that both the study and the bank ask
    about: no others are compared."""
    here, there = shared_pictures(bank, asked)
    if len(here) < 3:
        raise ValueError(
            f"{bank.folder} was asked about {len(here)} of this study's pictures; expected 3 or "
            "more, or retrain.audit: null"
        )
    halves = bank.models[bank.models.pair >= 0]
    row = halves.index[number % len(halves)]
    name, seed = bank.models.name[row], int(bank.models.seed[row])
    given = {name: (bank.removed(row), seed)}
    result = run_tasks(answer, (asked.shared, asked.questions), given, engine, progress="audit")
    again = result[name]["losses"].numpy()[here]
    usual = bank.losses[:, there].mean((0, 2, 3), dtype=np.float64)
    mean = lambda losses: np.asarray(losses, np.float64).mean((-2, -1)) - usual
    trained, recorded = mean(again), mean(bank.losses[row, there])
    facts = {"model": name, "correlation": float(np.corrcoef(recorded, trained)[0, 1])}
    facts["largest"] = float(np.abs(trained - recorded).max())
    facts["to the bit"] = bool((again == bank.losses[row, there]).all())
    twin = halves[(halves.pair == halves.pair[row]) & (halves.side == halves.side[row])]
    others = [other for other in twin.index if other != row]
    correlation = lambda other: np.corrcoef(recorded, mean(bank.losses[other, there]))[0, 1]
    facts["another seed"] = round(float(correlation(others[0])), 4) if others else None
    return Audit(name, recorded, trained, facts)
