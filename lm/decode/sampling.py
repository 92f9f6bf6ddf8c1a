"""From logits to the next token, in the order of GPT-2's `sample.py`: temperature, top-k, top-p.
Before these two stands min-p, as vLLM has it.

The token with which the likeliest reach p is kept (Holtzman et al. 2020), as transformers and
OpenAI's interface keep it; the released `sample.py` leaves it out, if it is not the only one.
"""

import dataclasses

import jax
import jax.numpy as jnp

from lm.core.config import require, require_at_least_zero


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How a token is drawn. Temperature 0 takes the likeliest (greedy), as a `top_p` of 0 does; a
    `top_k` of 0 is none."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float = 0.0  # none is drawn of less than so much of the likeliest's probability

    def __post_init__(self) -> None:
        require(
            0 <= self.temperature < float("inf"),
            f"temperature must be finite and at least 0, got {self.temperature}",
        )
        require_at_least_zero(self, "top_k", "top_p")
        require(self.top_p is None or self.top_p <= 1, f"top_p must be at most 1, got {self.top_p}")
        require(0 <= self.min_p <= 1, f"min_p must be from 0 to 1, got {self.min_p}")


def warmed(logits: jax.Array, temperature: jax.Array) -> jax.Array:
    """Logits [B V] at a temperature, the largest 0: too low a one for float32 leaves but that."""
    below = logits - logits.max(axis=-1, keepdims=True)
    return jnp.where(below == 0, 0.0, below / temperature)


def keep_top_k(logits: jax.Array, k: int | jax.Array) -> jax.Array:
    """Minus infinity for all but the `k` (or [B]) largest of [B V]; ties with the last stay."""
    return keep_largest(logits, jnp.ones_like(logits), k)


def keep_top_p(logits: jax.Array, p: float | jax.Array) -> jax.Array:
    """Keeps the likeliest that together reach `p` (or [B]) (Holtzman et al. 2020); ties stay."""
    enough = jnp.where(jnp.asarray(p) < 1, p, jnp.inf)  # no sum of rounded numbers ends the whole
    return keep_largest(logits, jax.nn.softmax(logits, axis=-1), enough)


def keep_min_p(logits: jax.Array, p: float | jax.Array) -> jax.Array:
    """Keeps what has at least `p` (or [B]) times the likeliest's chance (Nguyen et al. 2024)."""
    least = logits.max(axis=-1) + jnp.log(p)
    return jnp.where(logits < least[..., None], -jnp.inf, logits)


def keep_largest(logits: jax.Array, weights: jax.Array, enough: int | jax.Array) -> jax.Array:
    """Keeps of each row the largest, down to the first with which their weights come to `enough`.

    By bisection over the order of floats: CPUs take over ten times as long to sort a vocabulary.
    """
    bits = jax.lax.bitcast_convert_type(logits.astype(jnp.float32), jnp.uint32)
    order = jnp.where(bits >> 31, ~bits, bits | jnp.uint32(1 << 31))
    enough = jnp.broadcast_to(enough, order.shape[:1])

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        least, most = bounds
        middle = least + (most - least + 1) // 2
        kept = jnp.sum(jnp.where(order >= middle[:, None], weights, 0), axis=-1)
        return jnp.where(kept >= enough, middle, least), jnp.where(kept >= enough, most, middle - 1)

    bounds = order.min(axis=-1), order.max(axis=-1)
    least, _ = jax.lax.fori_loop(0, 32, halve, bounds)
    return jnp.where(order < least[:, None], -jnp.inf, logits)


def draw(keys: jax.Array, logits: jax.Array) -> jax.Array:
    """A token of each row by its probability. [B] int32 from [B] keys and [B V] logits."""
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def sample(keys: jax.Array, logits: jax.Array, config: SamplingConfig) -> jax.Array:
    """The next token of each row. [B] int32 from [B] keys and [B V] logits."""
    if config.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = warmed(logits, jnp.float32(config.temperature))
    if config.min_p:
        logits = keep_min_p(logits, config.min_p)
    if config.top_k:
        logits = keep_top_k(logits, config.top_k)
    if config.top_p is not None:
        logits = keep_top_p(logits, config.top_p)
    return draw(keys, logits)


def sample_each(
    keys: jax.Array, logits: jax.Array, temperature: jax.Array, top_k: jax.Array, top_p: jax.Array,
    min_p: jax.Array,
) -> jax.Array:  # fmt: skip
    """As `sample`, each row with settings of its own, and what no row asks for costs nothing.

    Args:
      keys: [B].
      logits: [B V].
      temperature, top_p, min_p: [B] float32; a `top_p` of 1 or more and a `min_p` of 0 keep all.
      top_k: [B] int32; V keeps all.

    Returns:
      [B] int32.
    """
    vocab = logits.shape[-1]

    def cut(logits: jax.Array) -> jax.Array:
        return keep_top_p(keep_top_k(keep_min_p(logits, min_p), top_k), top_p)

    def warm(logits: jax.Array) -> jax.Array:
        logits = warmed(logits, temperature[:, None])
        narrow = (temperature > 0) & ((top_k < vocab) | (top_p < 1) | (min_p > 0))
        return draw(keys, jax.lax.cond(jnp.any(narrow), cut, lambda same: same, logits))

    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    drawn = jax.lax.cond(jnp.any(temperature > 0), warm, lambda _: greedy, logits)
    return jnp.where(temperature > 0, drawn, greedy)
