"""From logits to the next token, in the order of GPT-2's `sample.py`: temperature, top-k, top-p.

The token with which the likeliest reach p is kept (Holtzman et al. 2020), as transformers and
OpenAI's interface keep it; the released `sample.py` leaves it out, if it is not the only one.
"""

import dataclasses

import jax
import jax.numpy as jnp

from lm.core.config import require, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How a token is drawn. Temperature 0 takes the likeliest (greedy)."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        require(
            0 <= self.temperature < float("inf"),
            f"temperature must be finite and at least 0, got {self.temperature}",
        )
        require_positive(self, "top_k", "top_p")
        require(self.top_p is None or self.top_p <= 1, f"top_p must be at most 1, got {self.top_p}")


def keep_top_k(logits: jax.Array, k: int) -> jax.Array:
    """Minus infinity for all but the `k` largest of [B V]; ties with the last of them stay."""
    least = jax.lax.top_k(logits, min(k, logits.shape[-1]))[0][:, -1:]
    return jnp.where(logits < least, -jnp.inf, logits)


def keep_top_p(logits: jax.Array, p: float) -> jax.Array:
    """Keeps the likeliest tokens that together reach `p` (Holtzman et al. 2020); ties stay."""
    descending = -jnp.sort(-logits, axis=-1)
    probabilities = jax.nn.softmax(descending, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    least = jnp.min(jnp.where(before < p, descending, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits < least, -jnp.inf, logits)


def sample(keys: jax.Array, logits: jax.Array, config: SamplingConfig) -> jax.Array:
    """The next token of each row. [B] int32 from [B] keys and [B V] logits."""
    if config.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / config.temperature
    if config.top_k is not None:
        logits = keep_top_k(logits, config.top_k)
    if config.top_p is not None:
        logits = keep_top_p(logits, config.top_p)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def sample_each(
    keys: jax.Array, logits: jax.Array, temperature: jax.Array, top_k: jax.Array, top_p: jax.Array
) -> jax.Array:
    """As `sample`, each row with settings of its own, and what no row asks for costs nothing.

    Args:
      keys: [B].
      logits: [B V].
      temperature, top_p: [B] float32; a `top_p` of 1 or more keeps all.
      top_k: [B] int32; V keeps all.

    Returns:
      [B] int32.
    """
    vocab = logits.shape[-1]

    def cut(logits: jax.Array) -> jax.Array:
        descending = -jnp.sort(-logits, axis=-1)
        place = jnp.clip(top_k, 1, vocab) - 1
        least = jnp.take_along_axis(descending, place[:, None], axis=-1)
        descending = jnp.where(descending < least, -jnp.inf, descending)
        probabilities = jax.nn.softmax(descending, axis=-1)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        inside = jnp.where(before < top_p[:, None], descending, jnp.inf)
        nucleus = jnp.min(inside, axis=-1, keepdims=True)
        least = jnp.where(top_p[:, None] < 1, jnp.maximum(least, nucleus), least)
        return jnp.where(logits < least, -jnp.inf, logits)

    def draw(logits: jax.Array) -> jax.Array:
        warm = logits / jnp.where(temperature > 0, temperature, 1.0)[:, None]
        narrow = (temperature > 0) & ((top_k < vocab) | (top_p < 1))
        warm = jax.lax.cond(jnp.any(narrow), cut, lambda same: same, warm)
        return jax.vmap(jax.random.categorical)(keys, warm).astype(jnp.int32)

    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    drawn = jax.lax.cond(jnp.any(temperature > 0), draw, lambda _: greedy, logits)
    return jnp.where(temperature > 0, drawn, greedy)
