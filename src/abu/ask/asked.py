"""What is asked, checked before anything is loaded."""

from collections.abc import Sequence
from pathlib import Path

from abu.data.pictures import as_seen


def check_asked(files: Sequence[Path], prompts: Sequence[str]) -> list[str | None]:
    """Prompt of each picture: its own, or one for all, or None where there are none.

    Raises ValueError for no picture, another number of prompts, and a file that is no readable
    image, FileNotFoundError for one that is not there.
    """
    if not files:
        raise ValueError("no picture is asked about; expected one file or more")
    if len(prompts) not in (0, 1, len(files)):
        expected = f"expected none, one for all, or {len(files)}"
        raise ValueError(f"{len(prompts)} prompts for {len(files)} pictures; {expected}")
    for file in files:
        if not file.is_file():
            said = "is a folder" if file.is_dir() else "is missing"
            raise FileNotFoundError(f"{file} {said}; expected a picture")
        as_seen(file)
    return list(prompts) if len(prompts) == len(files) else (list(prompts) or [None]) * len(files)
