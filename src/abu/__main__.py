"""List what can be run: ``python -m abu --help``."""

import ast
import json
import re
import sys
import textwrap
from pathlib import Path

from abu import ROOT

STARTED = 'if __name__ == "__main__":'
WIDE = 16  # of names that stand beside what they do
COMMAND = r"(:?)\s*``(python\s[^`]*)``\.?"


def sentence(text: str) -> str:
    """The first sentence, on one line, closed by a stop."""
    first = re.split(r"(?<=[.?!])\s", " ".join(text.replace("``", "").split()), maxsplit=1)[0]
    return first if first[-1:] in (".", "?", "!") else f"{first}."


def commands(folder: Path) -> dict[str, str]:
    """What of the modules in a folder is run, as the first command of their docstrings says, and
    the first sentence beside it."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        source = path.read_text()
        if STARTED in source and path != Path(__file__).resolve():
            doc = ast.get_docstring(ast.parse(source)) or ""
            words = re.search(COMMAND, doc)
            name = " ".join(words[2].split()) if words else f"python {path.relative_to(ROOT)}"
            # of the colon before a command, what the sentence needs to go on
            colon = lambda stood: stood[1] if stood[3] else ""
            first = re.sub(rf"{COMMAND}(?=( [a-z])?)", colon, doc.partition("\n\n")[0])
            found[name] = sentence(first)
    return found


def stages() -> dict[str, str]:
    """Notebooks in the order of ``dvc.yaml``, then those that are no stage, by their titles."""
    order = re.findall(r"^  (\w+):", (ROOT / "dvc.yaml").read_text(), re.MULTILINE)
    place = {name: number for number, name in enumerate(order)}
    found = {}
    files = (ROOT / "notebooks").glob("*.ipynb")
    for path in sorted(files, key=lambda path: (place.get(path.stem, len(place)), path.stem)):
        title = "".join(json.loads(path.read_text())["cells"][0]["source"]).splitlines()[0]
        found[path.stem] = title.lstrip("# ").partition(": ")[2] or title.lstrip("# ")
    return found


def targets() -> dict[str, str]:
    """Of the Makefile: those that say what they do."""
    lines = re.findall(r"^(\w[\w-]*):.*## (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {f"make {name}": said for name, said in lines}


def presets() -> dict[str, str]:
    """By name, and the first sentence of what their heads say."""
    files = sorted((ROOT / "presets").glob("*.yaml"))
    head = lambda path: re.match(r"(?:#.*\n)*", path.read_text())[0]
    return {path.stem: sentence(re.sub(r"^# ?", "", head(path), flags=re.M)) for path in files}


def listing() -> str:
    """Everything, a heading over each kind."""
    parts = {
        "Commands, each of which tells more with --help": commands(ROOT / "src/abu"),
        "Notebooks, as STAGE": stages(),
        "With make": targets(),
        "Presets, as NAME": presets(),
        "By hand": commands(ROOT / "benchmarks") | commands(ROOT / "scripts"),
    }
    lines = []
    for heading, entries in parts.items():
        lines += ["", f"{heading}:"]
        for name, said in entries.items():
            if max(map(len, entries)) > WIDE:
                lines += [f"  {name}", textwrap.indent(textwrap.fill(said, 90), " " * 6)]
            else:
                lead, rest = f"  {name:<{WIDE}}", " " * (WIDE + 2)
                lines.append(textwrap.fill(said, 96, initial_indent=lead, subsequent_indent=rest))
    return "\n".join(lines)


if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - {"-h", "--help"}:
        sys.exit(f"unknown: {' '.join(sorted(unknown))}\n{listing()}")
    print("Attribution by unlearning: what can be run, from the root of the study.")
    print(listing())
