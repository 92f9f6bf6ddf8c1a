"""Memory of a device: what programs need of it, and what arrays take."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import jax

from lm.train.supervised import Programs

UNITS = "KMGTP"
AMOUNT = rf"(\d+(?:\.\d+)?)([{UNITS}])"  # of memory, as the compiler writes it: 15.75G


@dataclasses.dataclass(frozen=True)
class Need:
    """Memory of one program of a step, in bytes of a device."""

    peak: float  # not a number where the compiler does not say what is too much
    limit: float  # what networks that it does not read leave

    @property
    def free(self) -> float:
        return -math.inf if math.isnan(self.peak) else self.limit - self.peak


def needs(programs: Programs, networks: Mapping[str, float], memory: float) -> dict[str, Need]:
    """Of each program, where these networks lie in so much memory."""
    found = {}
    for name, (lowered, read) in programs.items():
        try:
            analysis: Any = lowered.compile().memory_analysis()
            peak = float(analysis.peak_memory_in_bytes)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            peak = amount(str(error))
        away = sum(size for network, size in networks.items() if network not in read)
        found[name] = Need(peak, memory - away)
    return found


def amount(message: str) -> float:
    """Bytes that a program would need, as the compiler refuses it; not a number if untold."""
    said = message.partition("available HBM")[0]  # after it is what the chip has
    needed = re.search(rf"\(?{AMOUNT}\)? (?:of {AMOUNT} )?(?:exceeds|hbm)", said)
    found = needed or re.search(AMOUNT, said)
    return float(found[1]) * 2 ** (10 * (1 + UNITS.index(found[2]))) if found else math.nan


def largest_parts(state: Any, count: int) -> dict[str, int]:
    """The largest of a device's parts of a state's arrays: name, type and shape to bytes."""
    sizes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        dims = ",".join(map(str, leaf.sharding.shard_shape(leaf.shape)))
        sizes[f"{name} {leaf.dtype.name}[{dims}]"] = int(shard_bytes(leaf))
    return dict(sorted(sizes.items(), key=lambda pair: -pair[1])[:count])


def shard_bytes(tree: Any) -> float:
    """Bytes of a device's part of abstract arrays."""
    return float(
        sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(tree)
        )
    )
