"""Continuing prompts of unequal length with a cache of keys and values.

Prompts stand at the right of a common block, so that every row writes the same slot. One program
reads the prompts, another adds tokens in a loop on the device; the cache is its carry, donated from
call to call. A row's draws depend on (seed, row, tokens drawn) alone.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lm.core.config import require
from lm.core.errors import DataError
from lm.core.mesh import fetch
from lm.decode.sampling import SamplingConfig, sample
from lm.models.gpt import (
    Cache,
    GptConfig,
    Inserted,
    decoding_params,
    forward,
    forward_hidden,
    head,
)

SLOTS = 64  # prompts and caches are rounded up to a multiple of this, to compile few shapes
MOMENTS = 8  # at which a row may be cut, while as many tokens are written as a context has


@flax.struct.dataclass
class Decoding:
    """Where a generation stands."""

    cache: Cache
    logits: jax.Array  # [B V] of the token that comes next
    finished: jax.Array  # [B] bool: the row has produced its end token
    drawn: jax.Array  # scalar: tokens drawn so far, which number the keys of the draws


@functools.partial(jax.jit, static_argnames=("config", "slots"))
def read_prompts(
    config: GptConfig, params: Any, tokens: jax.Array, padding: jax.Array, slots: int,
    inserted: Inserted | None = None, prefix: jax.Array | None = None,
) -> Decoding:  # fmt: skip
    """Reads prompts [B P] that begin with `padding` [B] empty places, into a cache of `slots`."""
    cache = Cache.empty(config, padding, slots)
    hidden, cache = forward_hidden(config, params, tokens, cache, inserted, prefix)
    logits = head(config, params, hidden[:, -1:])[:, 0]
    finished = jnp.zeros(tokens.shape[0], bool)
    return Decoding(cache=cache, logits=logits, finished=finished, drawn=jnp.zeros((), jnp.int32))


@functools.partial(
    jax.jit, static_argnames=("config", "sampling", "count", "end", "vocab"),
    donate_argnames="decoding",
)  # fmt: skip
def extend(
    config: GptConfig, params: Any, decoding: Decoding, keys: jax.Array, limit: jax.Array | int,
    sampling: SamplingConfig, count: int, end: int | None, vocab: int | None = None,
) -> tuple[Decoding, jax.Array]:  # fmt: skip
    """Adds `limit` tokens to each row, at most `count`; stops when all rows have ended.

    Args:
      keys: [B] one key a row.
      limit: less than `count` in the last of many calls, for which none is compiled anew.
      end: token after which a row only repeats it; None: rows never end.
      vocab: of the tokenizer: the model's rows after these are no tokens, and never drawn.

    Returns:
      The decoding after it, and the tokens [B count], of which the first `limit` are meant.
    """
    rows = decoding.logits.shape[0]
    tokens = jnp.full((rows, count), -1 if end is None else end, jnp.int32)

    def unfinished(carry: Any) -> jax.Array:
        number, decoding, _ = carry
        return (number < limit) & ~jnp.all(decoding.finished)

    def add(carry: Any) -> Any:
        number, decoding, tokens = carry
        cache = decoding.cache
        draw_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, decoding.drawn)
        drawn = sample(draw_keys, decoding.logits[:, :vocab], sampling)
        finished = decoding.finished
        if end is not None:
            drawn = jnp.where(finished, end, drawn)
            finished = finished | (drawn == end)
        tokens = jax.lax.dynamic_update_slice_in_dim(tokens, drawn[:, None], number, axis=1)
        logits, cache = forward(config, params, drawn[:, None], cache=cache)
        decoding = Decoding(cache, logits[:, 0], finished, decoding.drawn + 1)
        return number + 1, decoding, tokens

    _, decoding, tokens = jax.lax.while_loop(unfinished, add, (0, decoding, tokens))
    return decoding, tokens


class Generator:
    """Continues prompts with one model."""

    def __init__(self, config: GptConfig, params: Any, end: int | None, vocab: int | None = None):
        """`params` as trained; `end`: the token that ends a text; `vocab`: ids that are tokens, of
        a model that may have more rows."""
        self.config, self.end, self.vocab = config, end, vocab or config.vocab
        self.params = jax.jit(functools.partial(decoding_params, config))(params)

    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        sampling: SamplingConfig,
        *,
        seed: int = 0,
        chunk: int = 8,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[np.ndarray]:
        """Yields new tokens [B n], at most `chunk` at a time, as they are made.

        A row that has ended repeats the end token. A row that would fill the context before the
        next moment, of which there is one every eighth of it, is cut: its later half is read again
        as the prompt, and what lies before is forgotten. Moments are those of all rows, so that
        many are read at once; which of them cuts a row is of its own length alone.

        Args:
          numbers: of the rows, by which they draw: their places where None.

        Raises:
          ConfigError: a context of one token, which has no room for another.
          DataError: an empty prompt, one longer than the context, or unequal ones for a fixed
            pattern.
        """
        require(self.config.length > 1, "a context of 1 token has no room for another")
        check_prompts(prompts, self.config.length)
        rows = jnp.asarray(range(len(prompts)) if numbers is None else numbers)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), rows)
        texts = [list(prompt) for prompt in prompts]
        finished = np.zeros(len(texts), bool)
        left = max_tokens
        while left > 0 and not finished.all():
            texts = self.shortened(texts, finished, left)
            room = min(self.room(text, left) for text in texts)
            read = self.read(texts, room)
            drawn = jnp.asarray(max_tokens - left, jnp.int32)
            decoding = Decoding(read.cache, read.logits, jnp.asarray(finished), drawn)
            while room > 0 and not finished.all():
                limit = min(chunk, room)
                decoding, new = extend(
                    self.config, self.params, decoding, keys, limit, sampling, chunk, self.end,
                    self.vocab,
                )  # fmt: skip
                tokens = fetch(new)[:, :limit]
                for text, row in zip(texts, tokens, strict=True):
                    text.extend(row.tolist())
                finished = fetch(decoding.finished)
                room, left = room - limit, left - limit
                yield tokens

    def room(self, text: Sequence[int], left: int) -> int:
        """Tokens that a row may still get, of `left`, until a moment at which it is cut."""
        free, apart = self.config.length - len(text), max(1, self.config.length // MOMENTS)
        return left if free >= left else free - free % apart

    def shortened(self, texts: list[list[int]], finished: np.ndarray, left: int) -> list[list[int]]:
        """What each row goes on from: one without room from its later half, and one that has ended
        takes no room of the others."""
        half = self.config.length // 2
        if self.config.counts_blocks:  # all rows are as long
            finished = np.zeros_like(finished)
        return [
            text[-1:] if ended else text if self.room(text, left) else text[-half:]
            for text, ended in zip(texts, finished, strict=True)
        ]

    def read(self, texts: Sequence[Sequence[int]], room: int) -> Decoding:
        """Reads prompts into a cache with room for as many more tokens.

        Raises:
          DataError: unequal prompts for a fixed pattern.
        """
        block = common_block(self.config, texts)
        tokens = np.zeros((len(texts), block), np.int32)
        padding = np.array([block - len(text) for text in texts], np.int32)
        for row, text in zip(tokens, texts, strict=True):
            row[block - len(text) :] = text
        return read_prompts(self.config, self.params, tokens, padding, rounded(block + room))

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        sampling: SamplingConfig,
        *,
        seed: int = 0,
    ) -> list[list[int]]:
        """New tokens of each prompt, without the end token and what follows it."""
        chunks = list(self.stream(prompts, max_tokens, sampling, seed=seed, chunk=max_tokens))
        rows = np.concatenate(chunks, axis=1).tolist() if chunks else [[] for _ in prompts]
        return [row[: row.index(self.end)] if self.end in row else row for row in rows]


def rounded(size: int) -> int:
    return -(-size // SLOTS) * SLOTS


def common_block(config: GptConfig, prompts: Sequence[Sequence[int]]) -> int:
    """Slots that prompts stand at the right of: those of the longest, rounded up for few shapes
    where no head counts blocks from the first slot.

    Raises:
      DataError: prompts of unequal length where one does.
    """
    longest = max(map(len, prompts))
    if not config.counts_blocks:
        return rounded(longest)
    if min(map(len, prompts)) < longest:
        raise DataError(
            "prompts of unequal length: a fixed pattern counts its blocks from the first "
            "token, which padding would move; give prompts of one length, or one at a time"
        )
    return longest


def check_prompts(
    prompts: Sequence[Sequence[int]], length: int, more: int = 0, names: Sequence[str] = ()
) -> None:
    """Raises DataError unless each prompt, with so many tokens more, fits a context of `length`;
    it names them by `names`, or else by their numbers."""
    for number, prompt in enumerate(prompts):
        name = names[number] if names else f"prompt {number}"
        if not len(prompt):
            raise DataError(f"{name} is empty: give at least one token")
        if len(prompt) + more > length:
            written = f" and {more} to write" if more else ""
            raise DataError(
                f"{name} has {len(prompt)} tokens{written}, the model's context is "
                f"{length}; shorten it{', or write fewer' if more else ''}"
            )


def check_ids(ids: np.ndarray, vocab: int, most: int = 2) -> None:
    """The device would clamp what is out of range, and say nothing.

    Raises:
      DataError: no integers of one dimension or of up to `most`, or one that the vocabulary lacks.
    """
    if not 1 <= ids.ndim <= most or ids.size == 0 or ids.dtype.kind not in "iu":
        shapes = "[T]" if most == 1 else "[T] or [B T]"
        raise DataError(f"ids must be integers {shapes}, got {ids.dtype}{ids.shape}")
    worst = ids.min() if ids.min() < 0 else ids.max()
    if not 0 <= worst < vocab:
        raise DataError(f"id {worst} is not in the model's vocabulary of {vocab}")
