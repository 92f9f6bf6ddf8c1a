"""Answers of a fixed length, as whoever scores them reads them (lm-human-preferences).

The policy always draws the same number of tokens. The scorer reads up to the first mark, a full
stop, that is not too near to the start; an answer without one gets a fixed score. The policy learns
from all of its tokens, those behind the mark too.
"""

import dataclasses
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp

from lm.core.config import require, require_at_least_zero
from lm.rlhf.rollout import Rollout
from lm.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class TruncationConfig:
    """Where a scorer stops reading; `mark` None: nowhere before the end."""

    mark: str | None = None  # lm-human-preferences: "."
    after: int = 16  # tokens of an answer that come before its mark at least
    missing: float = -1.0  # score of an answer without a mark

    def __post_init__(self) -> None:
        require_at_least_zero(self, "after")
        require(self.mark != "", "truncation.mark is empty: name a mark, or None for no cut")

    def ids(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """The tokens that are the mark and nothing else but blanks."""
        if self.mark is None:
            return ()
        found = tuple(
            token for token in range(tokenizer.vocab_size)
            if tokenizer.decode([token]).strip() == self.mark
        )  # fmt: skip
        require(bool(found), f"truncation.mark {self.mark!r} is no token of this tokenizer")
        return found


@flax.struct.dataclass
class Read:
    """A rollout as its scorer reads it, and which answers have a mark [B]."""

    rollout: Rollout
    marked: jax.Array


@partial(jax.jit, static_argnums=(1, 2))
def truncated(rollout: Rollout, marks: tuple[int, ...], after: int) -> Read:
    """The answers up to the first of `marks` that `after` tokens come before, it included."""
    count = rollout.mask.shape[1]
    columns = jnp.arange(count)
    answers = jnp.take_along_axis(
        rollout.tokens, jnp.clip(rollout.start[:, None] + columns, 0, rollout.tokens.shape[1] - 1),
        axis=1,
    )  # fmt: skip
    found = jnp.isin(answers, jnp.asarray(marks)) & (columns >= after) & rollout.mask
    behind = jnp.cumsum(found, axis=1) - found > 0
    cut = jnp.any(behind & rollout.mask, axis=1)
    read = dataclasses.replace(rollout, mask=rollout.mask & ~behind, ended=rollout.ended & ~cut)
    return Read(read, jnp.any(found, axis=1))
