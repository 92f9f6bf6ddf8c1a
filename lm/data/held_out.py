"""What is held out, by a hash of its name alone: the same wherever the data lie.

A cryptographic one: the checksums of names that differ in a few characters, as those of numbered
questions do, are bound to each other and pass over whole ranges.
"""

import hashlib
import math
import random
from collections.abc import Sequence, Set
from typing import TypeVar

Item = TypeVar("Item")


def place(name: str) -> float:
    """Where a name falls in [0, 1): it is held out below the fraction."""
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()
    return int(digest[:8], 16) / 2**32


def in_turn(items: Sequence[Item]) -> list[Item]:
    """Items in an order that is not that of their files, the same each time: the first few of
    several files are of all of them, as many as each has."""
    return random.Random(0).sample(items, len(items))


def dividing(fraction: float, places: Set[float]) -> float:
    """The fraction; of two places or more, moved where by chance none lies below it, or all."""
    if len(places) < 2:
        return fraction
    return min(max(fraction, math.nextafter(min(places), 1)), max(places))
