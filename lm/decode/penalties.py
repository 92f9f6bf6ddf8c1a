"""What is asked of the next token beside its probability: penalties on those that are there
already, biases, and no end before so many tokens.

Defined as OpenAI's (frequency, presence, bias) and as vLLM's (repetition, the least number of
tokens), on the logits before the temperature; also the likeliest token is taken after them.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lm.core.config import require

MOST_BIASES = 300  # of one request, as OpenAI's: numbers of a fixed shape go along with each
MOST_ENDS = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalties:
    """Those of one text; by default none."""

    frequency: float = 0.0  # taken from the logit of a token as often as it was drawn
    presence: float = 0.0  # once, where it was
    repetition: float = 1.0  # its logit over this, or times it below 0, in the prompt too
    bias: tuple[tuple[int, float], ...] = ()  # tokens, and what is added to their logits
    least: int = 0  # tokens before one that ends the text

    def __post_init__(self) -> None:
        require(self.repetition > 0, f"repetition must be above 0, got {self.repetition}")
        require(len(self.bias) <= MOST_BIASES, f"{len(self.bias)} biases, at most {MOST_BIASES}")


NONE = Penalties()


@flax.struct.dataclass
class Terms:
    """The same on a device, [B ...] or of one text, in two arrays: a step of a small model takes
    longer by a hundredth for each that it is handed."""

    weights: Any  # [3+K] float32: frequency, presence, repetition, then the biases
    tokens: Any  # [2+K+E] int32: whether there are any, the least; those biased, those that end

    @classmethod
    def of(cls, penalties: Penalties, ends: Collection[int], vocab: int) -> "Terms":
        """Those of one text, which `ends`, MOST_ENDS at most, end; `vocab` is V."""
        weights = np.zeros(3 + MOST_BIASES, np.float32)
        weights[:3] = penalties.frequency, penalties.presence, penalties.repetition
        tokens = np.full(2 + MOST_BIASES + MOST_ENDS, vocab, np.int32)  # V: none
        tokens[:2] = penalties != NONE, penalties.least
        for place, (token, value) in enumerate(penalties.bias):
            tokens[2 + place], weights[3 + place] = token, value
        if penalties.least:
            first = 2 + MOST_BIASES
            tokens[first : first + len(ends)] = sorted(ends)
        return cls(weights, tokens)

    @property
    def any(self) -> jax.Array:
        """[B] bool: whether there are some."""
        return self.tokens[:, 0] > 0


def marked(tokens: jax.Array, real: jax.Array, vocab: int) -> jax.Array:
    """The marks of a prompt [P], of which some are `real` [P]. [V] int32 as `penalised` has them"""
    marks = jnp.zeros(vocab, jnp.int32)
    return marks.at[jnp.where(real, tokens, vocab)].set(1, mode="drop")


def penalised(logits: jax.Array, marks: jax.Array, drawn: jax.Array, terms: Terms) -> jax.Array:
    """Logits [B V] from which the next token is drawn.

    Args:
      marks: [B V] int32: 1 for a token of the prompt, and 2 for each time that it was drawn.
      drawn: [B] tokens drawn so far.
    """
    rows, vocab = jnp.arange(logits.shape[0])[:, None], logits.shape[-1]
    frequency, presence, repetition, bias = jnp.split(terms.weights, (1, 2, 3), axis=1)
    _, least, biased, ends = jnp.split(terms.tokens, (1, 2, 2 + MOST_BIASES), axis=1)
    times = marks >> 1
    divisor = jnp.where(marks > 0, repetition, 1.0)
    logits = jnp.where(logits > 0, logits / divisor, logits * divisor)
    logits = logits - frequency * times - presence * (times > 0)
    logits = logits.at[rows, biased].add(bias, mode="drop")
    early = jnp.where(drawn[:, None] < least, ends, vocab)
    return logits.at[rows, early].set(-jnp.inf, mode="drop")
