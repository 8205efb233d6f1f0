"""Whether a study has what a question needs, and if not, which stage to run."""

from pathlib import Path

from abu.study.folders import BASE, results

NEEDS = (  # what each stage leaves last of what is read here
    ("components", "results/components/components.json"),
    ("prepare", "results/prepare/manifest.json"),
    ("train", "results/train/train.json"),
)
OWN = (("generate", "queries.csv"), ("cache", "manifest.json"))  # of each system


def check_ready(root: Path, system: str, systems: dict) -> None:
    """Raise KeyError for a system that ``systems`` of ``params.yaml`` does not have, ValueError for
    one that is not asked, and FileNotFoundError, which names the file and the stage, where a stage
    has not run in ``root``."""
    if system not in systems:
        raise KeyError(f"no system {system!r} in params.yaml; expected one of {sorted(systems)}")
    if systems[system]["kind"] == "reference":
        raise ValueError(f"system {system!r} has no pictures of its own; ask --system NAME")
    needed = list(NEEDS) + [("cache@base", results("cache") / "manifest.json")]
    if system != BASE:
        needed.append((f"customize@{system}", results("customize", system) / "customized.json"))
    needed += [(f"{stage}@{system}", results(stage, system) / file) for stage, file in OWN]
    for stage, file in needed:
        if not (root / file).is_file():
            raise FileNotFoundError(missing(root / file, stage))


def missing(file: Path, stage: str) -> str:
    """What to do about a file that a stage would have left."""
    return f"{file} is missing: the stage {stage} has not run; run dvc repro {stage}"


def check_tuned(root: Path) -> None:
    """Raise FileNotFoundError where ``tune`` has not chosen a step."""
    if not (file := root / results("tune") / "chosen.json").is_file():
        raise FileNotFoundError(missing(file, "tune"))
