"""Where stages leave what they made; what asks for no more than that loads no model."""

import json
from pathlib import Path

from ruamel.yaml import YAML

BASE = "base"
"""Name of the trained model among the systems of ``params.yaml``."""

read_yaml = YAML(typ="safe").load


def results(stage: str, system: str = BASE) -> Path:
    """Folder of what a stage leaves of a system."""
    return Path("results", stage, system)


def read_json(path: Path | str):
    """What a json file says."""
    return json.loads(Path(path).read_text())
