"""A vocabulary that divides by no number of devices, padded where it is used."""

import jax
import jax.numpy as jnp

from lm.core import axes
from lm.core.mesh import constrain, ways


def padded_rows(table: jax.Array, parts: int = 1) -> jax.Array:
    """`table` [V D] with rows of zeros at its end: as many as `parts` and the tensor axis divide.

    Where it is stored, and in checkpoints, it keeps its shape, and its width is split by more.
    """
    rows, split = table.shape[0], ways(axes.VOCABULARY)
    if rows % (parts * split) == 0:
        return table
    more = -rows % (parts * split)
    return constrain(jnp.pad(table, ((0, more), (0, 0))), axes.VOCABULARY, axes.ENTRY)
