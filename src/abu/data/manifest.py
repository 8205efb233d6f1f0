"""What a folder of results says of itself, and short hashes of what it was made from."""

import hashlib
import json
from pathlib import Path


def fingerprint(*parts) -> str:
    """Short hash of json-able facts and of files (paths), e.g. of a model's weights."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


def check_manifest(path: Path, expected: dict) -> dict:
    """Manifest at ``path``; raises ValueError for a torn one, or one whose first field that differs
    from ``expected`` it names."""
    try:
        manifest = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no json file: {error}") from error
    for field, value in expected.items():
        if manifest.get(field) != value:
            short = lambda x: text if len(text := json.dumps(x)) < 80 else text[:77] + "..."
            raise ValueError(
                f"{path}: {field} is {short(manifest.get(field))}; expected {short(value)}"
            )
    return manifest
