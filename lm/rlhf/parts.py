"""Rows that models read in parts, one after the other: less memory, and the same numbers."""

from collections.abc import Callable
from typing import Any

import jax


def in_parts(read: Callable[[Any], Any], rows: Any, parts: int) -> Any:
    """`read` of each of so many parts of a tree of [B ...], its outcomes put together. [B ...]"""
    split = jax.tree.map(lambda leaf: interleaved(leaf, parts), rows)
    return jax.tree.map(joined, jax.lax.map(read, split))


def interleaved(leaf: jax.Array, parts: int) -> jax.Array:
    """[B ...] as [parts B/parts ...]; row r is in part r mod parts, so that a batch that is split
    over devices stays where it is."""
    return leaf.reshape(leaf.shape[0] // parts, parts, *leaf.shape[1:]).swapaxes(0, 1)


def joined(leaf: jax.Array) -> jax.Array:
    """[parts B/parts ...] as [B ...]: what `interleaved` divided."""
    return leaf.swapaxes(0, 1).reshape(-1, *leaf.shape[2:])
