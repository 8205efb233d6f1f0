"""Where the executed notebooks stand, beside the page."""

STAGES = {  # in the order of the study: what each says
    "components": "the frozen text encoder and autoencoder, looked at",
    "prepare": "pictures and captions become latents and token states",
    "train": "a network learns to draw them",
    "customize": "it learns a new concept from a few exemplars",
    "generate": "it draws the pictures in question",
    "cache": "what any question needs is remembered once",
    "tune": "every method's options are chosen, on other pictures",
    "unlearn": "the model forgets a picture: whose loss rises?",
    "localize": "which images are responsible for a part of a picture",
    "influence": "every picture at once, to second order",
    "compare": "every other method answers",
    "retrain": "models trained without some of the images",
    "evaluate": "every method held against them",
    "exemplars": "are the exemplars of customized models found?",
    "report": "the story in short",
}
BY_SYSTEM = ("customize", "generate", "cache", "unlearn", "compare")
"""Stages that ask about one system at a time."""


def links(systems: list[str]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Stages in their order: name, what its notebook says, and its copies (label, address from the
    page's folder), one a system where it asks about one."""
    each = lambda stage: [(name, f"../{stage}-{name}.ipynb") for name in systems]
    one = lambda stage: [("notebook", f"../{stage}.ipynb")]
    copies = lambda stage: each(stage) if stage in BY_SYSTEM else one(stage)
    return [(stage, says, copies(stage)) for stage, says in STAGES.items()]
