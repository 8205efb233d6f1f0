"""Whether what a stage reads of other stages is there; DVC sees to it, a stage that is run by hand
would say so in the midst of a notebook."""

import re
from pathlib import Path

from abu.study.folders import read_yaml

FILLED = re.compile(r"\$\{([\w.]+)\}")


def deps_of(stage: str, root: Path) -> list[str]:
    """What ``dvc.yaml`` says that a stage reads; nothing of a stage that it does not have."""
    file = root / "dvc.yaml"
    declared = read_yaml(file)["stages"].get(stage, {}) if file.exists() else {}
    return declared.get("do", declared).get("deps", [])


def check_inputs(stage: str, system: str, root: Path) -> None:
    """Raise FileNotFoundError for a result of another stage that ``dvc.yaml`` says a stage reads
    and that is not there; it names what makes it. ``system``: "" where a stage asks about
    none. Of a model that was not customized, nothing is read of ``customize``."""
    kind = read_yaml(root / "params.yaml")["systems"].get(system, {}).get("kind", "")
    values = {"key": system, "item.kind": kind}
    named = [FILLED.sub(lambda name: values.get(name[1], ""), dep) for dep in deps_of(stage, root)]
    empty = () if kind == "customized" else ("results/customize/",)
    wanted = [dep for dep in named if dep.startswith("results/") and "/sources/" not in dep]
    wanted = [dep for dep in wanted if not dep.startswith(empty)]
    if missing := [dep for dep in wanted if not (root / dep).exists()]:
        name = f"{stage}@{system}" if system else stage
        raise FileNotFoundError(
            f"{name} reads {', '.join(missing)}, not there yet: dvc repro {name} makes it first"
        )
