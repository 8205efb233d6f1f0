"""Ask which training images a picture is owed to: ``python -m abu.ask picture.png [more.png ...]``.

The study must have run; its parameters are those of ``params.yaml``. Prints for each picture the
most responsible images with scores, standard errors and captions, and says where nothing stands
out. What cannot be asked is one line, and exit status 2.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from abu import ROOT
from abu.study.commands import QUIET


class Parser(argparse.ArgumentParser):
    """One line for what it refuses."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def four(text: str) -> list[float]:
    """Edges of a region."""
    edges = [float(edge) for edge in text.split(",")]
    if len(edges) != 4:
        raise ValueError
    return edges


def parser() -> Parser:
    """What can be asked for."""
    made = Parser("python -m abu.ask", description=__doc__)
    add = made.add_argument
    add("pictures", type=Path, nargs="+", metavar="picture.png")
    add("--prompt", action="append", default=[], help="its prompt: once for all, or once for each")
    four.__name__ = "x0,y0,x1,y1"  # how argparse calls it in errors
    guess = "without a prompt, ask with the training caption that fits the picture best"
    add("--guess", action="store_true", help=guess)
    region = "a part: left,top,right,bottom as fractions of width and height"
    add("--region", type=four, metavar="x0,y0,x1,y1", help=region)
    add("--exact", action="store_true", help="AbU's finite step on the best candidates")
    add("--top", type=int, default=10, help="images that are named")
    add("--system", default="base", help="of `systems` in params.yaml; default: base")
    add("--strip", type=Path, metavar="FILE.png", help="draw the pictures and their images")
    add("--json", metavar="FILE", help="write everything as JSON; -: print it in place of text")
    add("--study", type=Path, default=ROOT, help="folder of another study that has run")
    return made


def main(words: list[str]) -> None:
    given = parser().parse_args(words)
    # what needs no model is refused before the libraries are loaded
    from abu.ask.asked import check_asked
    from abu.core.regions import box

    check_asked(given.pictures, given.prompt)
    if given.region:
        box(given.region, (1, 1))
    from abu.ask.load import load_asker
    from abu.ask.show import as_json, as_text, write_strip
    from abu.data.files import write_atomically

    asker = load_asker(given.system, given.study)
    what = given.region, given.exact, given.top, given.guess
    replies = asker.ask(given.pictures, given.prompt, *what)
    if given.json != "-":
        print("\n\n".join(map(as_text, replies)))
    if given.json:
        text = as_json(asker, replies, given.exact, given.region) + "\n"
        if given.json == "-":
            print(text, end="")
        else:
            write_atomically(Path(given.json), lambda file: file.write_text(text))
            print(f"wrote {given.json}")
    if given.strip:
        write_strip(given.strip, asker, replies)
        print(f"wrote {given.strip}", file=sys.stderr if given.json == "-" else sys.stdout)


if __name__ == "__main__":
    os.environ.update(QUIET | os.environ)
    try:
        main(sys.argv[1:])
    except (KeyError, OSError, RuntimeError, ArithmeticError, ValueError) as error:
        said = error.args[0] if len(error.args) == 1 else error
        print(" ".join(f"{said}".split()), file=sys.stderr)
        sys.exit(2)
