"""How a command of the study ends: with its docstring where help is asked for, with one line where
something is refused."""

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches

QUIET = {  # read by libraries when they are loaded
    "GOMP_SPINCOUNT": "10000",  # threads that wait longer sleep, so that others run
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def command(main: Callable[..., None], doc: str, least: int = 0) -> None:
    """Call ``main`` with the words of the command line. ``--help`` prints ``doc`` in place of it;
    fewer than ``least`` words end in it."""
    words = sys.argv[1:]
    if {"-h", "--help"} & {*words}:
        return print(doc.strip())
    if len(words) < least:
        sys.exit(doc.strip())
    try:
        main(*words)
    except (KeyError, OSError, ValueError) as error:
        said = error.args[0] if len(error.args) == 1 else error
        sys.exit(f"{type(error).__name__}: {said}")


def nearest(unknown: str, names: Iterable[str]) -> str:
    """What a misspelt name is likely to mean, as the end of a message; "" where nothing is near."""
    near = get_close_matches(unknown, [name for name in names if isinstance(name, str)], n=1)
    return f"; the nearest is {near[0]!r}" if near else ""
