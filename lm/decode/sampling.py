"""From logits to the next token, in the order of GPT-2's `sample.py`: temperature, top-k, top-p."""

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
