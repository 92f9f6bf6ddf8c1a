"""A checksum that a manifest has of itself: a bit that flips in it is seen, as in its arrays."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def checksum(manifest: Mapping[str, Any]) -> str:
    """Of all that a manifest says beside it, however it is spelled."""
    rest = {name: value for name, value in manifest.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def is_altered(manifest: Mapping[str, Any]) -> bool:
    """Whether it is not the one that was written; of one without a checksum nobody can tell."""
    return "checksum" in manifest and manifest["checksum"] != checksum(manifest)
