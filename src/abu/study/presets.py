"""Apply a preset to params.yaml: ``python -m abu.study.presets presets/NAME.yaml [params.yaml]``.

A preset maps parameters (``section.parameter``, deeper ones likewise) to values; ``section.*`` maps
to several of a section. Each value is replaced whole. Comments of ``params.yaml`` stay, but for one
beside a value where the preset has its own. A parameter that does not exist is refused, and then
nothing is written.
"""

from functools import reduce
from operator import getitem
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.tokens import CommentToken

from abu import ROOT
from abu.data.files import write_atomically
from abu.study.commands import command, nearest


def round_trip() -> YAML:
    """Reader and writer that leaves ``params.yaml`` as it is, comments included."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    null = lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    yaml.Representer = type("Representer", (yaml.Representer,), {})  # not that of everybody
    yaml.Representer.add_representer(type(None), null)
    return yaml


def apply(preset: Path, params: Path = ROOT / "params.yaml") -> None:
    """Set what a preset names in ``params``; KeyError for what is no parameter, before writing,
    FileNotFoundError for no preset."""
    if not preset.is_file():
        there = sorted(path.stem for path in preset.parent.glob("*.yaml"))
        said = f"no preset {preset}; expected one of {there}"
        raise FileNotFoundError(said + nearest(preset.stem, there))
    yaml = round_trip()
    tree, named, changes = yaml.load(params), yaml.load(preset), {}
    for key, value in named.items():
        section, star, _ = key.partition("*")
        several, prefix = (value, section) if star else (named, "")
        changes |= {prefix + name: (several, name) for name in (value if star else [key])}
    for name in changes:
        if name not in (names := list(parameters(tree))):
            raise KeyError(f"{preset.name}: no parameter {name!r}{nearest(name, names)}")
    for name, source in changes.items():
        *path, key = name.split(".")
        replace(reduce(getitem, path, tree), key, *source)
    write_atomically(params, lambda file: yaml.dump(tree, file))


def parameters(tree: CommentedMap, prefix: str = ""):
    """Names of all that can be set, dotted."""
    for key, value in tree.items():
        yield prefix + str(key)
        if isinstance(value, CommentedMap):
            yield from parameters(value, f"{prefix}{key}.")


def replace(parent: CommentedMap, key: str, source: CommentedMap, name: str) -> None:
    """Another value, ``source[name]``; comments beside the old one and below it stay."""
    value = source[name]
    beside = comment(source, name).partition("\n")[0] or comment(parent, key).partition("\n")[0]
    _, _, below = comment(*last(parent, key)).partition("\n")
    parent.ca.items.pop(key, None)
    if isinstance(value, CommentedMap | CommentedSeq):
        value.ca.comment = None
    parent[key] = value
    if beside:
        write(parent, key, beside + "\n")
    end = last(parent, key)
    if comment(*end) or below:
        write(*end, comment(*end).partition("\n")[0] + "\n" + below)


def last(parent, key):
    """Where the text of a value ends: the last entry within it, or itself, as parent and key."""
    value = parent[key]
    while isinstance(value, CommentedMap | CommentedSeq) and value and not value.fa.flow_style():
        parent, key = value, len(value) - 1 if isinstance(value, CommentedSeq) else list(value)[-1]
        value = parent[key]
    return parent, key


def comment(parent, key) -> str:
    """What ruamel.yaml keeps after an entry: a comment beside it, then all lines up to the next."""
    token = (parent.ca.items.get(key) or [None] * 4)[0 if isinstance(parent, CommentedSeq) else 2]
    return token.value if token else ""


def write(parent, key, text: str) -> None:
    """Set that."""
    slot = 0 if isinstance(parent, CommentedSeq) else 2
    tokens = parent.ca.items.setdefault(key, [None] * 4)
    tokens[slot] = CommentToken(text, CommentMark(0))


if __name__ == "__main__":
    command(lambda *paths: apply(*map(Path, paths)), __doc__, least=1)
