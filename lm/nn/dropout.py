"""Dropout whose masks are a function of (key, row): the same on any mesh, on any hosts."""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class DropoutKeys:
    """One key for what all rows share, and one for each row of the batch."""

    step: jax.Array  # a key
    rows: jax.Array  # [B] keys

    @classmethod
    def of(cls, key: jax.Array, rows: jax.Array) -> "DropoutKeys":
        """Keys for the rows with these global indices [B]."""
        return cls(step=key, rows=jax.vmap(jax.random.fold_in, (None, 0))(key, rows))

    def fold(self, number: int | jax.Array) -> "DropoutKeys":
        """The keys of a place: a layer, or one of several dropouts in it."""
        rows = jax.vmap(jax.random.fold_in, (0, None))(self.rows, number)
        return DropoutKeys(step=jax.random.fold_in(self.step, number), rows=rows)

    def spread(self, candidates: int) -> "DropoutKeys":
        """Keys of the candidates of each row, one after another. [B] -> [B C]"""
        fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
        rows = fold(self.rows, jnp.arange(candidates)).reshape(-1)
        return DropoutKeys(step=self.step, rows=rows)


def dropout(x: jax.Array, rate: float, keys: DropoutKeys | None) -> jax.Array:
    """Zeroes elements of `x` [B ...] with probability `rate`; nothing without keys."""
    if keys is None or rate == 0.0:
        return x
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys.rows)
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


def table_dropout(table: jax.Array, rate: float, keys: DropoutKeys | None) -> jax.Array:
    """Dropout of a parameter [V D], one mask for the whole batch."""
    if keys is None or rate == 0.0:
        return table
    kept = jax.random.bernoulli(keys.step, 1 - rate, table.shape)
    return jnp.where(kept, table / (1 - rate), 0).astype(table.dtype)
