"""Token and position tables."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.core import axes
from lm.nn.initializers import named


class Table(nn.Module):
    """A learned vector for each of `rows`; also the tied output layer."""

    rows: int
    width: int
    axis: str  # what the rows are
    std: float

    def setup(self) -> None:
        init = named(nn.initializers.normal(self.std), (self.axis, axes.WIDTH))
        self.table = self.param("table", init, (self.rows, self.width))

    def __call__(self, ids: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
        """Rows of the table, [... D]. Ids are trusted: check them on the host."""
        return jnp.take(self.table, ids, axis=0, mode="clip").astype(dtype)

    def logits(self, x: jax.Array) -> jax.Array:
        """`x` [B T D] against every row, in float32. [B T V]"""
        table = self.table.astype(x.dtype)
        return jnp.einsum("BTD,VD->BTV", x, table, preferred_element_type=jnp.float32)
