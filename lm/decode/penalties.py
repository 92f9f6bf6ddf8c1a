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
    """The same on a device, each leaf with the axis [B] before its own or, of one text, without."""

    any: Any  # bool: whether there are some
    frequency: Any  # float32
    presence: Any  # float32
    repetition: Any  # float32
    biased: Any  # [K] int32 tokens; V: none
    bias: Any  # [K] float32
    least: Any  # int32
    ends: Any  # [E] int32: the tokens that end it, where the least is above 0; V: none

    @classmethod
    def of(cls, penalties: Penalties, ends: Collection[int], vocab: int) -> "Terms":
        """Those of one text, which `ends`, MOST_ENDS at most, end; `vocab` is V."""
        held = sorted(ends) if penalties.least else []
        biased, bias = np.full(MOST_BIASES, vocab, np.int32), np.zeros(MOST_BIASES, np.float32)
        for place, (token, value) in enumerate(penalties.bias):
            biased[place], bias[place] = token, value
        return cls(
            any=np.bool_(penalties != NONE),
            frequency=np.float32(penalties.frequency),
            presence=np.float32(penalties.presence),
            repetition=np.float32(penalties.repetition),
            biased=biased,
            bias=bias,
            least=np.int32(penalties.least),
            ends=np.array(held + [vocab] * (MOST_ENDS - len(held)), np.int32),
        )


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
    times = marks >> 1
    divisor = jnp.where(marks > 0, terms.repetition[:, None], 1.0)
    logits = jnp.where(logits > 0, logits / divisor, logits * divisor)
    logits = logits - terms.frequency[:, None] * times - terms.presence[:, None] * (times > 0)
    logits = logits.at[rows, terms.biased].add(terms.bias, mode="drop")
    early = jnp.where((drawn < terms.least)[:, None], terms.ends, vocab)
    return logits.at[rows, early].set(-jnp.inf, mode="drop")
