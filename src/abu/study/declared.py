"""What notebooks declare of their parameters, and whether what they are given fits.

The cell tagged ``parameters`` annotates each: ``int``, ``list[float]``, ``dict``, ... A default of
None says that null is allowed too (papermill reads no ``int | None``), or ``NULLABLE`` does.
Numbers are finite, and 0 or more but for seeds and those in ``SIGNED``; an ``int`` is no ``bool``
and no ``float``.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin

import nbformat

from abu.study.commands import nearest

SIGNED = {"seed", "seeds", "pair_seeds", "full_seeds", "noises", "floors", "guidance", "scheduler"}
NULLABLE = {  # null though their default is another
    "train.source",
    "train.muon_lr",
    "generate.source",
    "retrain.bank",
    "retrain.latin",
    "tune.bank",
    "localize.relative_norm",
    "retrain.audit",
}
RECIPES = ("train", "customize")  # whose batches are part of what is learned
SYSTEM = {"kind": str, "category": str, "class_word": str, "train_prompt": str, "keep": dict}
FORMS = {  # of mappings whose keys are not free, and of what no annotation of a notebook says
    "latin": {
        **{"folder": str, "methods": list[str], "squares": list[list[int | bool]]},
        **{"queries": int, "group": int, "seed": int},
    },
    "features": {"weights": str, "dimension": int, "cotangents": int, "timesteps": list[int]},
    "regions": dict[str, list[float] | str],
    "sampler": {"steps": int, "guidance": float, "eta": float},
    "settings": dict[str, dict[str, float]],
    "systems": dict[str, SYSTEM],
}
DVC: dict[str, tuple] = {"watch": (list[str], [])}  # what no notebook reads, but dvc.yaml
NAME = r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9_-]*"  # DVC splits at dots and counts by digits
WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list",
    dict: "a mapping",
}


@cache
def declarations(notebook: Path) -> dict[str, tuple[object, object]]:
    """Type and default of each parameter that a notebook declares, by name."""
    cells = nbformat.read(notebook, 4).cells
    cell = next(cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    return {
        node.target.id: (
            FORMS.get(node.target.id, eval(ast.unparse(node.annotation), {})),
            ast.literal_eval(node.value),
        )
        for node in ast.parse(cell.source).body
    }


def check_value(name: str, value: object, declared: tuple[object, object]) -> None:
    """Raise ValueError, by ``name``, for a value that does not fit type and default of what a
    notebook declares."""
    kind, default = declared
    if value is None and (default is None or name in NULLABLE):
        return
    *_, stage, parameter = ["", *name.split(".")]
    if value == "auto" and parameter == "batch_size" and stage not in RECIPES:
        return
    for place, given, expected in misfits(name, value, kind, name.rpartition(".")[2] in SIGNED):
        nullable = default is None or name in NULLABLE
        null = " or null" if nullable and place == name else ""
        null += ", or auto" if parameter == "batch_size" and stage not in RECIPES else ""
        raise ValueError(f"{place} is {given!r}; expected {expected}{null}")


def misfits(name: str, value, kind, signed: bool = False) -> Iterator[tuple[str, object, str]]:
    """Where a value does not fit a type: place, what is found there, and what is expected."""
    if isinstance(kind, UnionType):
        tries = [list(misfits(name, value, each, signed)) for each in get_args(kind)]
        yield from min(tries, key=len)
        return
    plain, inner = get_origin(kind) or kind, get_args(kind)
    if isinstance(kind, dict):
        plain = dict
    number = (int, float) if plain is float else plain
    if plain is not object and (
        not isinstance(value, number) or (isinstance(value, bool) and plain is not bool)
    ):
        more = "" if signed or plain not in (int, float) else ", 0 or more"
        yield name, value, WORDS[plain] + more
    elif isinstance(value, float) and not isfinite(value):
        yield name, value, "a finite number"
    elif plain in (int, float) and value < 0 and not signed:
        yield name, value, f"{WORDS[plain]}, 0 or more"
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from misfits(f"{name}[{place}]", item, *(inner or [object]), signed)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield f"{name}: the name {key!r}", key, 'a text: put it in quotes, "..."'
            elif isinstance(kind, dict) and key not in kind:
                yield f"{name}.{key}", item, f"some of {sorted(kind)} in {name}"
            else:
                each = kind[key] if isinstance(kind, dict) else (inner or [str, object])[1]
                yield from misfits(f"{name}.{key}", item, each, signed)


def check(what: str, names: Iterable[str], those: Iterable[str]) -> None:
    """KeyError, with what there is, unless all ``names`` are among ``those``."""
    if unknown := sorted(set(names) - set(those)):
        said = f"unknown {what} {', '.join(unknown)}; expected some of {sorted(those)}"
        raise KeyError(said + (nearest(unknown[0], those) if len(unknown) == 1 else ""))


def check_study(study: dict, declared: dict[str, dict[str, tuple]]) -> None:
    """Check every section of ``params.yaml`` against what notebooks, by name, declare.

    KeyError for a name that nothing reads or a parameter that is missing, whose notebook would run
    on a value that nobody sees; ValueError for a value that does not fit, and for a system whose
    name DVC or a command line would read as something else.
    """
    top = {"common", "systems", "changes"}
    for name in sorted(top | declared.keys()):
        if not isinstance(study.get(name), dict if name in top else dict | None):
            raise ValueError(f"{name} is {study.get(name)!r}; expected a mapping")
    check("section", study, top | declared.keys())
    every = {name: d for each in [*declared.values(), DVC] for name, d in each.items()}
    check("common parameter", study["common"], every)
    for name, value in study["common"].items():
        check_value(f"common.{name}", value, every[name])
    check("choice of common.watch", study["common"].get("watch", []), ["files"])
    for name in study["systems"]:
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            expected = "letters, digits, - and _, with a letter among them"
            raise ValueError(f"systems has the name {name!r}; expected {expected}")
    check_value("systems", study["systems"], (FORMS["systems"], {}))
    for name, system in study["systems"].items():
        kind = system.get("kind") or f"(none) of systems.{name}"
        check("kind of system", [kind], study["changes"])
    asking = {name for name in declared if "system" in declared[name]}
    check("system", ["base"] if asking else [], study["systems"])
    filled = {"out", "system", "systems", "study", *study["common"]}
    for section in sorted(declared):
        given = (study.get(section) or {}).keys()
        if lacking := declared[section].keys() - filled - given:
            expected = f"all that notebooks/{section}.ipynb declares"
            misspelt = ", ".join(sorted(given - declared[section].keys()))
            more = f"; it has {misspelt}, which nothing reads" if misspelt else ""
            said = f"{section} lacks {', '.join(sorted(lacking))}"
            raise KeyError(f"{said}; expected {expected}{more}")
        check_section(section, study.get(section), declared[section])
    for kind, sections in study["changes"].items():
        check_value(f"changes.{kind}", sections, (dict, {}))
        check(f"section of changes.{kind}", sections, asking)
        for section, values in sections.items():
            check_section(f"changes.{kind}.{section}", values, declared[section])


def check_section(section: str, values: dict | None, declared: Mapping[str, tuple]) -> None:
    """Check one section, or what ``changes`` has of it; null has nothing."""
    check_value(section, values, (dict, None))
    check(f"parameter of {section.rpartition('.')[2]}.ipynb", values or {}, declared)
    for name, value in (values or {}).items():
        check_value(f"{section}.{name}", value, declared[name])
