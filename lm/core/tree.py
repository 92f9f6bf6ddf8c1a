"""Small questions about trees of arrays."""

import math
from typing import Any

import jax
import jax.numpy as jnp


def name_of(path: tuple[Any, ...]) -> str:
    """A path of `jax.tree_util` as `blocks/attn/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: Any) -> dict[str, Any]:
    """Every leaf by its name, in tree order."""
    return {name_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def count(tree: Any) -> int:
    """Number of elements in all leaves, concrete or abstract."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def size_bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def square_norm(tree: Any) -> jax.Array:
    """Sum of squares of all elements, in float32."""
    return sum(
        (jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)),
        start=jnp.zeros((), jnp.float32),
    )
