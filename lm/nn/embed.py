"""Token and position tables."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.core import axes
from lm.core.dot import padded_einsum
from lm.core.padding import padded_rows
from lm.nn.dropout import DropoutKeys, table_dropout
from lm.nn.initializers import named, sinusoids, truncated_normal


class Table(nn.Module):
    """A learned vector for each of `rows`; also the tied output layer.

    With `keys` the table itself is dropped out, by one mask for the batch: GPT-1 does so, and its
    tied output reads the same dropped table as its input.
    """

    rows: int
    width: int
    axis: str  # what the rows are
    std: float
    truncated: bool = False  # initial values, at two standard deviations
    waves: bool = False  # initial values are sinusoids of the row's number
    dropout: float = 0.0

    def setup(self) -> None:
        drawn = truncated_normal(self.std) if self.truncated else nn.initializers.normal(self.std)
        drawn = sinusoids(self.std) if self.waves else drawn
        init = named(drawn, (self.axis, axes.ENTRY))
        self.table = self.param("table", init, (self.rows, self.width))

    def __call__(
        self, ids: jax.Array, dtype: jax.typing.DTypeLike, keys: DropoutKeys | None = None
    ) -> jax.Array:
        """Rows of the table, [... D]. Ids are trusted: check them on the host."""
        return jnp.take(padded_rows(self.dropped(keys)), ids, axis=0, mode="clip").astype(dtype)

    def dropped(self, keys: DropoutKeys | None = None) -> jax.Array:
        """The table [V D], dropped out with `keys`."""
        return table_dropout(self.table, self.dropout, keys)

    def logits(self, x: jax.Array, keys: DropoutKeys | None = None) -> jax.Array:
        """`x` [B T D] against every row, in float32. [B T V]"""
        table = self.dropped(keys)
        return padded_einsum("BTD,VD->BTV", x, table)
