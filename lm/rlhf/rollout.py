"""Answers drawn from a policy, and the log-probability of each of their tokens.

One compiled program reads a block of prompts of unequal length, draws up to `count` tokens a row
and leaves when every row has ended. Rows come out with prompt, answer and padding from the left,
where a causal model needs no mask; `answer_logp` scores them anew, by another program than the one
that drew them, and the two must agree. Both are over the tokenizer's ids alone: a model may have
more rows, which are no tokens and are never said.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lm.core.errors import DataError
from lm.decode.generate import read_prompts, rounded
from lm.decode.sampling import SamplingConfig, sample
from lm.losses.language import token_losses
from lm.models.adapters import attached, merged
from lm.models.gpt import GptConfig, Inserted, decoding_params, forward, forward_hidden, head
from lm.rlhf.parts import in_parts

DRAWN = SamplingConfig()  # all tokens; the temperature is applied to the logits before


@flax.struct.dataclass
class Sight:
    """What a decoder sees in its prompts beside tokens. It is a constant of a prompt: the eyes that
    made it, encoder and connector, are not taught by rewards (our choice)."""

    vectors: Any  # [B S D], in the order of their places
    places: Any  # [B P] bool: where in the prompt they stand
    example: Any  # [B] int32: the example that a prompt is of
    whole: bool = flax.struct.field(
        pytree_node=False, default=False
    )  # the prompt sees all of itself

    def inserted(self, width: int) -> Inserted:
        """The vectors in rows of so many tokens."""
        beyond = width - self.places.shape[1]
        return Inserted(self.vectors, jnp.pad(self.places, ((0, 0), (0, beyond))))

    def of_answers(self) -> "Sight":
        """Of prompts with C answers each, whose places are [B C T], that of each answer."""
        rows, answers, length = self.places.shape
        return Sight(
            jnp.repeat(self.vectors, answers, axis=0), self.places.reshape(-1, length),
            jnp.repeat(self.example, answers), self.whole,
        )  # fmt: skip

    def prefix(self, start: jax.Array, width: int) -> jax.Array | None:
        """[B width] bool: tokens of prompts of `start` [B] tokens, where they see each other."""
        return jnp.arange(width) < start[:, None] if self.whole else None


@flax.struct.dataclass
class Prompts:
    """Texts to answer, and images in them."""

    tokens: Any  # [B P] int32, padding at the right
    start: Any  # [B] int32: tokens of each
    mask: Any  # [B] bool: rows that count
    rows: Any  # [B] uint32: the row's number in the run, of which its draws are a function
    sight: Sight | None = None


@flax.struct.dataclass
class Rollout:
    """Prompts with an answer each."""

    tokens: jax.Array  # [B P+T] int32: prompt, answer, padding
    start: jax.Array  # [B] int32: tokens of the prompt
    mask: jax.Array  # [B T] bool: tokens of the answer, its end token included
    logp: jax.Array  # [B T] float32: of each token as it was drawn; 0 outside the mask
    ended: jax.Array  # [B] bool: the answer has an end token
    sight: Sight | None = None

    @property
    def last(self) -> jax.Array:
        """Where the answer's last token stands. [B]"""
        return self.start + jnp.sum(self.mask, axis=1, dtype=jnp.int32) - 1

    @property
    def there(self) -> jax.Array:
        """Tokens of prompts and answers, without padding. []"""
        return jnp.sum(self.last + 1)


def encode_prompts(texts: Sequence[Sequence[int]], width: int) -> tuple[Prompts, int]:
    """Prompts of at most `width` tokens, and how many are longer and left out.

    Raises:
      DataError: none is left.
    """
    kept = [ids for ids in texts if 0 < len(ids) <= width]
    if not kept:
        raise DataError(
            f"none of {len(texts)} prompts fits into {width} tokens: set a larger prompt_length"
        )
    tokens = np.zeros((len(kept), width), np.int32)
    for row, ids in zip(tokens, kept, strict=True):
        row[: len(ids)] = ids
    prompts = Prompts(
        tokens=tokens,
        start=np.array([len(ids) for ids in kept], np.int32),
        mask=np.ones(len(kept), bool),
        rows=np.arange(len(kept), dtype=np.uint32),
    )
    return prompts, len(texts) - len(kept)


@partial(jax.jit, static_argnames=("config", "count", "end", "temperature", "vocab", "parts"))
def roll_out(
    config: GptConfig,
    params: Any,
    prompts: Prompts,
    key: jax.Array,
    *,
    count: int,
    end: int,
    temperature: float = 1.0,
    vocab: int | None = None,
    parts: int = 1,
) -> Rollout:
    """An answer of at most `count` tokens to each prompt.

    Args:
      vocab: ids that are tokens; every row of the model where it is None.
      parts: in which the prompts are answered, one after the other: keys and values are of one.
    """
    params = decoding_params(config, merged(params))
    read = partial(
        answers, config, params, key=key, count=count, end=end, temperature=temperature, vocab=vocab
    )
    return in_parts(read, prompts, parts)


def answers(
    config: GptConfig,
    params: Any,
    prompts: Prompts,
    *,
    key: jax.Array,
    count: int,
    end: int,
    temperature: float,
    vocab: int | None,
) -> Rollout:
    """Those of prompts that are answered together, by `decoding_params`."""
    rows, width = prompts.tokens.shape
    padding = width - prompts.start
    columns = (jnp.arange(width) - padding[:, None]) % width
    at_right = jnp.take_along_axis(prompts.tokens, columns, axis=1)
    inserted = prefix = None
    if prompts.sight is not None:
        places = jnp.take_along_axis(prompts.sight.places, columns, axis=1)
        inserted = Inserted(prompts.sight.vectors, places)
        prefix = jnp.ones_like(places) if prompts.sight.whole else None
    slots = rounded(width + count)
    decoding = read_prompts(config, params, at_right, padding, slots, inserted, prefix)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, prompts.rows)

    def unfinished(carry: Any) -> jax.Array:
        number, _, _, ended, *_ = carry
        return (number < count) & ~jnp.all(ended)

    def draw(carry: Any) -> Any:
        number, cache, logits, ended, answer, mask, logp = carry
        logits = logits[:, :vocab] / temperature
        token = sample(jax.vmap(jax.random.fold_in, (0, None))(keys, number), logits, DRAWN)
        token = jnp.where(ended, end, token)
        said = -token_losses(logits, token)
        answer = answer.at[:, number].set(jnp.where(ended, 0, token))
        mask, logp = (
            mask.at[:, number].set(~ended),
            logp.at[:, number].set(jnp.where(ended, 0.0, said)),
        )
        next_logits, cache = forward(config, params, token[:, None], cache=cache)
        return number + 1, cache, next_logits[:, 0], ended | (token == end), answer, mask, logp

    answer = jnp.zeros((rows, count), jnp.int32)
    mask, logp = jnp.zeros((rows, count), bool), jnp.zeros((rows, count), jnp.float32)
    nothing = jnp.zeros(rows, bool)
    carry = (0, decoding.cache, decoding.logits, nothing, answer, mask, logp)
    _, _, _, ended, answer, mask, logp = jax.lax.while_loop(unfinished, draw, carry)
    place = jnp.arange(width + count) - prompts.start[:, None]
    written = jnp.take_along_axis(answer, jnp.clip(place, 0, count - 1), axis=1)
    block = jnp.pad(prompts.tokens, ((0, 0), (0, count)))
    tokens = jnp.where(place < 0, block, jnp.where(place < count, written, 0))
    return Rollout(tokens, prompts.start, mask, logp, ended, prompts.sight)


def answer_logp(
    config: GptConfig,
    params: Any,
    tokens: jax.Array,
    start: jax.Array,
    count: int,
    temperature: float = 1.0,
    sight: Sight | None = None,
    vocab: int | None = None,
) -> jax.Array:
    """Log-probability of each of the `count` tokens that follow `start` [B]. [B count] float32

    Logits are made at these places alone; what is beyond an answer's end is for a mask to hide.
    `vocab` is that of `roll_out`.
    """
    params = attached(params)
    inserted, prefix = seen(sight, start, tokens.shape[1])
    hidden, _ = forward_hidden(config, params, tokens, inserted=inserted, prefix=prefix)
    before = jnp.clip(start[:, None] - 1 + jnp.arange(count), 0, tokens.shape[1] - 2)
    states = jnp.take_along_axis(hidden, before[..., None], axis=1)
    logits = head(config, params, states)[..., :vocab] / temperature
    return -token_losses(logits, jnp.take_along_axis(tokens, before + 1, axis=1))


def seen(
    sight: Sight | None, start: jax.Array, width: int
) -> tuple[Inserted | None, jax.Array | None]:
    """What a model reads beside rows of so many tokens, whose prompts have `start` [B]."""
    if sight is None:
        return None, None
    return sight.inserted(width), sight.prefix(start, width)


def answer_values(values: jax.Array, start: jax.Array, count: int) -> jax.Array:
    """Of numbers [B S] at every token, those of the states before an answer's tokens. [B count]"""
    before = jnp.clip(start[:, None] - 1 + jnp.arange(count), 0, values.shape[1] - 2)
    return jnp.take_along_axis(values, before, axis=1)
