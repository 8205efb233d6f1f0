"""Which stage of how many runs, and about how long the rest takes."""

from pathlib import Path

from abu.study.costs import MEASURED, STAGE, STAGES, read
from abu.study.folders import read_yaml
from abu.study.memory import PLAN

RECORDED = Path("benchmarks/stages.csv")
"""What a whole run of the embedded study took, from a fresh clone (a copy of ``STAGES``)."""
EMBEDDED = "data/captions.json"

Stage = tuple[str, str]  # and system


def in_order(root: Path) -> list[Stage]:
    """(stage, system) of all that ``dvc repro`` runs of ``dvc.yaml``, the first first; the system
    is "" where a stage asks about none."""
    systems = list(read_yaml(root / "params.yaml")["systems"])
    stages = read_yaml(root / "dvc.yaml")["stages"]
    of = {name: systems if "foreach" in stage else [""] for name, stage in stages.items()}
    return [(name, system) for name, each in of.items() if name != "sources" for system in each]


def seconds_left(
    ahead: list[Stage], expected: dict[Stage, float], taken: dict[Stage, float]
) -> float | None:
    """Seconds of what is ``ahead``, in all ``expected``, times how much slower than that the stages
    were that have ``taken`` their time here; None where nothing is known."""
    known = [stage for stage in taken if stage in expected and stage not in ahead]
    total = lambda seconds, stages: sum(seconds.get(stage, 0) for stage in stages)
    pace = total(taken, known) / total(expected, known) if known else 1
    return pace * total(expected, ahead) if expected else None


def where(stage: str, system: str, root: Path) -> str:
    """How far a run is at the beginning of a stage, in a line; the time left by the plan, where
    there is one, or, of the embedded study, by a recorded run. "" for what is no stage of a run."""
    order = in_order(root) if (root / "dvc.yaml").is_file() else []
    if (stage, system) not in order:
        return ""
    file = root / PLAN
    prepare = read_yaml(root / "params.yaml")["prepare"]
    if not file.exists() and prepare["annotations"] == EMBEDDED:
        file = root / RECORDED
    expected = read(file, STAGE, MEASURED[:1])[MEASURED[0]].to_dict()
    taken = read(root / STAGES, STAGE, MEASURED)[MEASURED[0]].to_dict()
    place = order.index((stage, system))
    left = seconds_left(order[place:], expected, taken)
    said = f"stage {place + 1} of {len(order)}, {' '.join(filter(None, (stage, system)))}"
    if left is None:
        return said
    return f"{said}; if all that follows runs, {max(left / 60, 1):.0f} min are left"
