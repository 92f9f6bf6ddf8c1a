"""The likeliest next words of a text, where a word is several tokens.

A word is known to have ended only by what follows it, so each hypothesis is weighed with the chance
that a token comes next which cannot belong to it. Its probability is then that of the word and no
longer one: "sign" does not count what "signs" has.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.config import require
from lm.decode.generate import Decoding, Generator, check_prompts
from lm.models.gpt import GptConfig, forward


@dataclasses.dataclass(frozen=True)
class Parts:
    """Which tokens are what of a word. Each [V] bool, of a tokenizer's ids: what rows a model has
    beyond them are no tokens, and have no probability."""

    first: np.ndarray  # may begin one
    within: np.ndarray  # may go on with one
    after: np.ndarray  # may follow one


@functools.partial(jax.jit, static_argnames=("config", "width", "count"))
def search(
    config: GptConfig, params: Any, decoding: Decoding, first: jax.Array, within: jax.Array,
    after: jax.Array, width: int, count: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """The `width` likeliest words of up to `count` tokens after each prompt.

    Returns:
      Their tokens [B W T] padded with -1, log-probabilities [B W] from the highest (-inf where
      there is none), and lengths [B W].
    """
    prompts, vocab = decoding.logits.shape[0], first.shape[0]
    rows = prompts * width
    none = jnp.full((prompts, width), -jnp.inf)
    blank = jnp.full((prompts, width, count), -1, jnp.int32)
    logp = jnp.where(first, jax.nn.log_softmax(decoding.logits[:, :vocab]), -jnp.inf)
    if width > vocab:
        logp = jnp.pad(logp, ((0, 0), (0, width - vocab)), constant_values=-jnp.inf)
    scores, token = jax.lax.top_k(logp, width)
    token = jnp.minimum(token, vocab - 1).astype(jnp.int32)
    cache = decoding.cache.rows(config, jnp.repeat(jnp.arange(prompts), width))
    live = (scores, blank.at[:, :, 0].set(token))
    ended = (none, blank, jnp.zeros((prompts, width), jnp.int32))

    def hopeful(carry: Any) -> jax.Array:
        number, (scores, _), (best, _, _), _ = carry
        # a longer word is never likelier than what it begins with
        return (number <= count) & jnp.any(scores[:, 0] > best[:, -1])

    def grow(carry: Any) -> Any:
        number, (scores, tokens), (best, words, lengths), cache = carry
        token = jax.lax.dynamic_index_in_dim(tokens, number - 1, axis=2, keepdims=False)
        logits, cache = forward(config, params, token.reshape(rows, 1), cache=cache)
        logp = jax.nn.log_softmax(logits[:, 0, :vocab]).reshape(prompts, width, vocab)
        stop = jax.nn.logsumexp(jnp.where(after, logp, -jnp.inf), axis=-1)
        best, chosen = jax.lax.top_k(jnp.concatenate([best, scores + stop], axis=1), width)
        words = jnp.take_along_axis(
            jnp.concatenate([words, tokens], axis=1), chosen[..., None], axis=1
        )
        lengths = jnp.take_along_axis(
            jnp.concatenate([lengths, jnp.full_like(lengths, number)], axis=1), chosen, axis=1
        )

        totals = scores[:, :, None] + jnp.where(within, logp, -jnp.inf)
        scores, flat = jax.lax.top_k(totals.reshape(prompts, width * vocab), width)
        source, token = flat // vocab, (flat % vocab).astype(jnp.int32)
        tokens = jnp.take_along_axis(tokens, source[..., None], axis=1)
        tokens = jax.lax.dynamic_update_slice_in_dim(tokens, token[..., None], number, axis=2)
        row = (jnp.arange(prompts)[:, None] * width + source).reshape(rows)
        return number + 1, (scores, tokens), (best, words, lengths), cache.rows(config, row)

    # At `count` tokens only the ends are taken: what would be written beyond falls off.
    start = (jnp.int32(1), live, ended, cache)
    _, _, (best, words, lengths), _ = jax.lax.while_loop(hopeful, grow, start)
    kept = jnp.where(jnp.arange(count) < lengths[..., None], words, -1)
    return kept, best, lengths


def next_words(
    generator: Generator,
    prompts: Sequence[Sequence[int]],
    parts: Parts,
    *,
    width: int = 32,
    longest: int = 8,
) -> list[list[tuple[tuple[int, ...], float]]]:
    """The likeliest words after each prompt, tokens and log-probability, the likeliest first.

    A beam search of that width: exact where it is at least the number of beginnings of words.

    Raises:
      ConfigError: no width or length.
      DataError: a prompt that with `longest` tokens does not fit the context, or unequal ones for
        a fixed pattern.
    """
    require(width >= 1 and longest >= 1, f"width {width} and longest {longest} must be at least 1")
    check_prompts(prompts, generator.config.length, longest)
    decoding = generator.read(prompts, longest)
    words, scores, lengths = jax.device_get(
        search(
            generator.config, generator.params, decoding, parts.first, parts.within, parts.after,
            width, longest,
        )
    )  # fmt: skip
    return [
        [
            (tuple(word[:size].tolist()), float(score))
            for word, score, size in zip(*row, strict=True)
            if score > -np.inf
        ]
        for row in zip(words, scores, lengths, strict=True)
    ]
