"""Verdicts in words, each beside what it would have been."""

from IPython.display import Markdown


def either(holds: bool, yes: str, no: str, found: str = "") -> Markdown:
    """A verdict that the data chose, what was ``found``, and the sentence that would stand here had
    they chosen otherwise."""
    said, unsaid = (yes, no) if holds else (no, yes)
    return Markdown(f"**{said}** {found} *(Had it gone the other way: {unsaid})*")
