"""Dropout whose masks are a function of (key, row): the same on any mesh, on any hosts."""

from dataclasses import replace

import flax.struct
import jax
import jax.numpy as jnp

BITS = 16  # that an element's fate is drawn from


@flax.struct.dataclass
class DropoutKeys:
    """What the masks of a place in the model are drawn from."""

    key: jax.Array
    rows: jax.Array  # [B] int, global indices of the batch's rows

    def fold(self, number: int | jax.Array) -> "DropoutKeys":
        """The keys of a place: a layer, or one of several dropouts in it."""
        return replace(self, key=jax.random.fold_in(self.key, number))

    def spread(self, candidates: int) -> "DropoutKeys":
        """Keys of the candidates of each row, one after another. [B] -> [B C]"""
        rows = self.rows[:, None] * candidates + jnp.arange(candidates)
        return replace(self, rows=rows.reshape(-1))


def dropout(x: jax.Array, rate: float, keys: DropoutKeys | None) -> jax.Array:
    """Zeroes elements of `x` [B ... D] with probability `rate`; nothing without keys.

    What is kept is scaled by what the rate comes to in 16 bits, so that the mean stays.
    """
    if keys is None or rate == 0.0:
        return x
    dropped = min(round(rate * 2**BITS), 2**BITS - 1)
    kept = draws(keys, x.shape) >= dropped
    return jnp.where(kept, x / (1 - dropped / 2**BITS), 0).astype(x.dtype)


def table_dropout(table: jax.Array, rate: float, keys: DropoutKeys | None) -> jax.Array:
    """Dropout of a parameter [V D], one mask for the whole batch."""
    if keys is None:
        return table
    return dropout(table[None], rate, replace(keys, rows=jnp.zeros(1, jnp.int32)))[0]


def draws(keys: DropoutKeys, shape: tuple[int, ...]) -> jax.Array:
    """Uniform numbers of 16 bits, [B ... D], four from each block of the generator.

    Block b of row r is threefry(key, (r, b)). `jax.random.bernoulli` takes a block an element, and
    its loop over the rounds is run by CPUs as one: some five times as long.
    Its four are neighbours along the axis before the last, so that no mesh has to send any.
    """
    batch, *middle, length, width = shape if len(shape) > 2 else (shape[0], 1, shape[-1])
    blocks = (*middle, -(-length // 4), width)
    index = jnp.zeros(blocks, jnp.uint32)
    for axis, size in enumerate(blocks):
        index = index * size + jax.lax.broadcasted_iota(jnp.uint32, blocks, axis)
    rows = keys.rows.astype(jnp.uint32).reshape(batch, *[1] * len(blocks))
    words = threefry(jax.random.key_data(keys.key), rows, index)
    parts = [half.astype(jnp.uint16) for word in words for half in (word, word >> 16)]
    drawn = jnp.stack(parts, axis=-2).reshape(batch, *middle, -1, width)
    return drawn[..., :length, :].reshape(shape)


def threefry(key: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 of 20 rounds (Salmon et al. 2011, section 5.1): two words from two, uint32.

    It is the generator of jax's keys, unrolled.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    x, y = x + schedule[0], y + schedule[1]
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = x ^ (y << turn | y >> 32 - turn)
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y
