"""What is held out, by a hash of its name alone: the same wherever the data lie.

A cryptographic one: the checksums of names that differ in a few characters, as those of numbered
questions do, are bound to each other and pass over whole ranges.
"""

import hashlib
import math
from collections.abc import Set


def place(name: str) -> float:
    """Where a name falls in [0, 1): it is held out below the fraction."""
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()
    return int(digest[:8], 16) / 2**32


def dividing(fraction: float, places: Set[float]) -> float:
    """The fraction; of two places or more, moved where by chance none lies below it, or all."""
    if len(places) < 2:
        return fraction
    return min(max(fraction, math.nextafter(min(places), 1)), max(places))
