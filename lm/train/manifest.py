"""What a checkpoint says of itself: the digest of every array, and whether it fits.

A digest is a sum of hashed elements, computed where the array lives: it is the same under any
sharding, and needs no copy to the host. The manifest has a checksum of itself, without which a bit
that flips in it would change a step, a count or another run's digest unseen.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lm.core.checksum import checksum, is_altered
from lm.core.errors import CheckpointError, StorageError
from lm.core.tree import named_leaves

FORMAT = 1
COUNTS = ("tokens", "rollbacks", "skipped")  # facts of every run; older checkpoints lack some
STEP = re.compile("0|[1-9][0-9]*", re.ASCII)  # how the folder of one is named
ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
PASSING = re.compile(  # how XLA and TensorStore begin, of what is no fault of the files
    "ABORTED|RESOURCE_EXHAUSTED|UNAVAILABLE|DEADLINE_EXCEEDED|CANCELLED|PERMISSION_DENIED|"
    "UNAUTHENTICATED"
)


class Damaged(Exception):
    """One step cannot be used; an older one may."""


def passing(error: BaseException) -> BaseException | None:
    """What `error` comes from, where that may pass and leaves the files whole: no memory, too many
    open files, a disk or store that does not answer. None: something is missing or damaged."""
    cause: BaseException | None = error
    while cause is not None:
        system = of_system(cause)
        answered = system is None or isinstance(system, ABSENT)
        if not answered or isinstance(cause, MemoryError) or PASSING.match(str(cause)):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def of_system(error: BaseException) -> OSError | None:
    """The system's error: `error` itself, or the one whose number TensorStore tells in its text."""
    if isinstance(error, OSError):
        return error
    number = re.search(r" \[os_error_code='(\d+)'\]", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else None


def steps_in(folder: Path) -> list[int]:
    """Steps that have a folder in a run's `checkpoints`, whole or not, oldest first."""
    return sorted(int(path.name) for path in folder.glob("*") if STEP.fullmatch(path.name))


def digest(leaf: jax.Array) -> jax.Array:
    """A 32-bit digest of an array: the sum of its elements' bits, each hashed with its index."""
    width = leaf.dtype.itemsize
    if leaf.dtype == bool:
        bits = leaf.astype(jnp.uint32)
    else:
        bits = jax.lax.bitcast_convert_type(
            leaf, {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[width]
        )
        bits = bits.astype(jnp.uint32)
    index = jnp.zeros(leaf.shape, jnp.uint32)
    for axis, size in enumerate(leaf.shape):
        index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
    # the finaliser of MurmurHash3: every bit of the sum depends on every bit of the element
    h = bits ^ (index * jnp.uint32(0x9E3779B1) + jnp.uint32(0x85EBCA77))
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return jnp.sum(h ^ (h >> 16), dtype=jnp.uint32)


@jax.jit
def digests(tree: Any) -> dict[str, jax.Array]:
    return {name: digest(leaf) for name, leaf in named_leaves(tree).items()}


def make_manifest(step: int, state: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """What is kept beside the arrays of a step: their shapes and digests, and `facts`."""
    found = jax.device_get(digests(state))
    tree = {
        name: {"shape": leaf.shape, "dtype": str(leaf.dtype), "digest": int(found[name])}
        for name, leaf in named_leaves(state).items()
    }
    manifest = {"format": FORMAT, "step": step, "tree": tree, **facts}
    return manifest | {"checksum": checksum(manifest)}


def verify(manifest: dict[str, Any], state: Any) -> None:
    """Raises Damaged where an array is not the one that was saved."""
    found = jax.device_get(digests(state))
    wrong = [
        name for name, entry in manifest["tree"].items() if int(found[name]) != entry["digest"]
    ]
    if wrong:
        raise Damaged(f"digest mismatch in {', '.join(wrong[:5])} ({len(wrong)} arrays)")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a step's folder. An earlier version wrote them without a checksum.

    Raises:
      Damaged: it is not one. StorageError: it may be, and cannot be read now.
    """
    path = folder / "manifest" / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise Damaged(f"format {manifest['format']} is not {FORMAT}, which this version reads")
        if is_altered(manifest):
            raise Damaged("the manifest is not the one that was saved: its checksum is another")
        if manifest["step"] != int(folder.name):
            raise Damaged(f"the manifest is of step {manifest['step']}")
        for entry in manifest["tree"].values():
            list(map(int, entry["shape"])), str(entry["dtype"]), int(entry["digest"])
        if not all(type(manifest.get(name, 0)) is int for name in COUNTS):
            raise TypeError
        if not isinstance(manifest.get("tokenizer", ""), str):
            raise TypeError
        return manifest
    except ABSENT:
        raise Damaged("no manifest: an incomplete or foreign folder") from None
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read now: {error.strerror or error}; mend that and run again"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise Damaged("the manifest cannot be read") from None


def sound(folder: Path) -> bool:
    """Whether Orbax's own record of a step is one; where it is missing Orbax does without."""
    try:
        record = json.loads((folder / "_CHECKPOINT_METADATA").read_text())
        times = [record.get(f"{when}_timestamp_nsecs") for when in ("init", "commit")]
        kinds: dict[str, Any] = {
            "item_handlers": (dict, str),
            "metrics": dict,
            "custom_metadata": dict,
        }
        fits = [isinstance(record.get(n), kind) for n, kind in kinds.items() if record.get(n)]
        return all(isinstance(t, int | None) for t in times) and all(fits)
    except (OSError, ValueError):
        return True
    except AttributeError:
        return False


def compare_trees(tree: dict[str, Any], abstract: Any, folder: Path) -> None:
    """Raises CheckpointError, naming every kind of difference at once, unless the trees agree."""
    wanted = named_leaves(abstract)
    missing = [name for name in wanted if name not in tree]
    extra = [name for name in tree if name not in wanted]
    other = [
        f"{name}: checkpoint {entry['dtype']}{list(entry['shape'])}, "
        f"configuration {wanted[name].dtype}{list(wanted[name].shape)}"
        for name, entry in tree.items()
        if name in wanted
        and (list(entry["shape"]), entry["dtype"])
        != (list(wanted[name].shape), str(wanted[name].dtype))
    ]
    parts = [
        f"{label} {', '.join(names[:5])}"
        + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        for label, names in (("missing:", missing), ("unknown:", extra), ("other shape:", other))
        if names
    ]
    if parts:
        raise CheckpointError(
            f"{folder}: not a checkpoint of this configuration; {'; '.join(parts)}"
        )
