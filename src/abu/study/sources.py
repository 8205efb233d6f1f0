"""Files and folders that parameters name, by their bytes: a dependency of stages that read them.

DVC depends on paths, and such a parameter may as well be null, a name on a hub, or a list. So with
``common.watch: [files]`` the stage ``sources`` runs each time and writes
``results/sources/STAGE.json``, on which STAGE depends: digests of all that its section, or
``changes``, names and that is there, but for what ``dvc.yaml`` names itself
(``${prepare.images}``). Files whose size and time are as before are not read again. Without, a
stage whose parameters name a file is refused, and ``dvc repro`` with nothing to do runs nothing.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from abu.data.files import write_json
from abu.data.manifest import fingerprint
from abu.study.inputs import deps_of

SOURCES = "sources"
OUT = Path("results", SOURCES)
MEMO = Path("scratch/digests.json")
STAGE_DEPS = re.compile(rf"{OUT}/(\w+)\.json")
WATCHED = re.compile(r"\$\{(\w+\.\w+)\}")
MADE = ("results", "scratch")  # a stage's own
WORDS = {"keep", "pairs", "prompts", "tuning", "groups"}  # parameters whose texts are no paths


def texts(place: str, value) -> Iterator[tuple[str, str]]:
    """Every text in a value, with its place: ``section.name.key``."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in parts:
            yield from texts(f"{place}.{key}", item)


def named(study: dict, stage: str, root: Path) -> dict[str, Path]:
    """What a stage's parameters name that is there, by the parameters' places."""
    changes = {kind: sections.get(stage) for kind, sections in study["changes"].items()}
    given = [*texts(stage, study.get(stage))]
    given += [pair for kind in changes for pair in texts(f"changes.{kind}.{stage}", changes[kind])]
    paths = {place: root / text for place, text in given if text.strip()}
    made = [root / name for name in MADE]
    ours = lambda path: root.is_relative_to(path) or any(path.is_relative_to(m) for m in made)
    return {place: path for place, path in paths.items() if os.path.exists(path) and not ours(path)}


def check_watched(study: dict, stage: str, root: Path) -> None:
    """Raise ValueError for a file that a stage's parameters name and on which DVC would not depend
    without ``common.watch``."""
    if not (deps := [root / dep for dep in deps_of(stage, root)]):
        return
    for place, path in named(study, stage, root).items():
        inside = any(path.is_relative_to(dep) or dep.is_relative_to(path) for dep in deps)
        if not inside and root / f"${{{place}}}" not in deps and not WORDS & set(place.split(".")):
            raise ValueError(
                f"{place} names {path}, whose bytes DVC does not look at: set common.watch: "
                "[files] in params.yaml"
            )


def link_named(study: dict, here: Path, there: Path) -> None:
    """Link into ``here`` what parameters name relative to another checkout of the study and have
    only ``there``, since git ignores it."""
    for _, text in texts("", study):
        parts = Path(text).parts
        inside = parts and not Path(text).is_absolute() and ".." not in parts
        if not inside or parts[0] in MADE or not os.path.exists(there / text):
            continue
        is_file = (there / text).is_file()
        for file in files_of(there / text) if is_file else [there / text]:  # a list beside it too
            path = here / file.relative_to(there)
            if not os.path.lexists(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(file)


def files_of(path: Path) -> list[Path]:
    """A file, and the list of images beside an array of them; or all files below a folder."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    listing = path.with_suffix(".json")
    return [path, listing] if path.suffix == ".npy" and listing.is_file() else [path]


def write_sources(study: dict, root: Path) -> None:
    """Write what every stage that asks for it in ``dvc.yaml`` depends on."""
    text, memo = (root / "dvc.yaml").read_text(), {}
    if (root / MEMO).exists():
        memo = json.loads((root / MEMO).read_text())
    seen: dict[str, list] = {}

    def digest(file: Path) -> str:
        stat, name = file.stat(), str(file.resolve())
        now = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        seen[name] = memo[name] if memo.get(name, [])[:3] == now else [*now, fingerprint(file)]
        return seen[name][3]

    (root / OUT).mkdir(parents=True, exist_ok=True)
    for stage in sorted(set(STAGE_DEPS.findall(text))):
        digests = {
            place: {os.path.relpath(file, path): digest(file) for file in files_of(path)}
            for place, path in named(study, stage, root).items()
            if place not in WATCHED.findall(text)
        }
        write_json(root / OUT / f"{stage}.json", digests)
    if any(memo.get(name) != known for name, known in seen.items()):
        (root / MEMO.parent).mkdir(exist_ok=True)
        write_json(root / MEMO, memo | seen)
