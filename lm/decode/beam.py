"""Beam search over the same cached decoder."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lm.core.config import require
from lm.core.errors import ConfigError
from lm.decode.generate import Decoding, Generator, check_prompts
from lm.models.gpt import GptConfig, forward

SEARCH = 2  # raised where other texts are found than before


@flax.struct.dataclass
class Beams:
    """`W` hypotheses of each of `B` prompts."""

    decoding: Decoding  # rows B * W
    tokens: jax.Array  # [B W T]
    scores: jax.Array  # [B W] sum of log-probabilities of the live hypotheses
    best: jax.Array  # [B T] the best hypothesis that has ended
    best_score: jax.Array  # [B] its normalised score
    number: jax.Array  # tokens so far


@functools.partial(jax.jit, static_argnames=("config", "width", "count", "end", "alpha", "vocab"))
def search(
    config: GptConfig,
    params: Any,
    decoding: Decoding,
    width: int,
    count: int,
    end: int,
    ends: jax.Array,
    alpha: float,
    vocab: int,
) -> tuple[jax.Array, jax.Array]:
    """The best continuation of each prompt [B count], padded with `end`, and its score [B].

    A hypothesis ends with a token of `ends` [V] bool. A score is a log-probability over
    ((5 + length) / 6) ** alpha (Wu et al. 2016, eq. 14). Rows after `vocab` are no tokens.
    """
    prompts = decoding.logits.shape[0]
    rows = prompts * width

    def penalty(length: jax.Array) -> jax.Array:
        return ((5.0 + length) / 6.0) ** alpha

    copies = jnp.repeat(jnp.arange(prompts), width)
    decoding = Decoding(
        decoding.cache.rows(config, copies),
        decoding.logits[copies],
        decoding.finished[copies],
        decoding.drawn,
    )
    beams = Beams(
        decoding=decoding,
        tokens=jnp.full((prompts, width, count), end, jnp.int32),
        scores=jnp.tile(jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf), (prompts, 1)),
        best=jnp.full((prompts, count), end, jnp.int32),
        best_score=jnp.full((prompts,), -jnp.inf),
        number=jnp.zeros((), jnp.int32),
    )

    def hopeful(beams: Beams) -> jax.Array:
        # log-probabilities only fall: to a live hypothesis the longest length is the kindest, or
        # the next one where alpha is negative
        kindest = float(count) if alpha >= 0 else beams.number + 1.0
        attainable = jnp.max(beams.scores, axis=1) / penalty(jnp.asarray(kindest))
        return (beams.number < count) & jnp.any(attainable > beams.best_score)

    def grow(beams: Beams) -> Beams:
        logp = jax.nn.log_softmax(beams.decoding.logits[:, :vocab]).reshape(prompts, width, vocab)
        totals = beams.scores[:, :, None] + logp

        def likeliest(totals: jax.Array, count: int) -> tuple[jax.Array, ...]:
            """Totals, hypotheses gone on from, tokens and histories of the likeliest so many."""
            totals, flat = jax.lax.top_k(totals.reshape(prompts, width * vocab), count)
            source, token = flat // vocab, (flat % vocab).astype(jnp.int32)
            histories = jnp.take_along_axis(beams.tokens, source[..., None], axis=1)
            return totals, source, token, histories.at[:, :, beams.number].set(token)

        found, _, token, histories = likeliest(totals, 2 * width)
        final = jnp.where(ends[token], found / penalty(beams.number + 1.0), -jnp.inf)
        first = jnp.argmax(final, axis=1)
        score = jnp.take_along_axis(final, first[:, None], axis=1)[:, 0]
        better = score > beams.best_score
        best = jnp.take_along_axis(histories, first[:, None, None], axis=1)[:, 0]

        # of those that go on: with many tokens that end, the likeliest may all have ended
        scores, source, token, tokens = likeliest(jnp.where(ends[:vocab], -jnp.inf, totals), width)
        row = (jnp.arange(prompts)[:, None] * width + source).reshape(rows)
        cache = beams.decoding.cache.rows(config, row)
        logits, cache = forward(config, params, token.reshape(rows, 1), cache=cache)
        return Beams(
            decoding=Decoding(cache, logits[:, 0], beams.decoding.finished, beams.decoding.drawn),
            tokens=tokens,
            scores=scores,
            best=jnp.where(better[:, None], best, beams.best),
            best_score=jnp.where(better, score, beams.best_score),
            number=beams.number + 1,
        )

    beams = jax.lax.while_loop(hopeful, grow, beams)
    # a hypothesis cut off at `count` stands beside those that ended
    final = beams.scores / penalty(beams.number.astype(jnp.float32))
    first = jnp.argmax(final, axis=1)
    score = jnp.take_along_axis(final, first[:, None], axis=1)[:, 0]
    cut = jnp.take_along_axis(beams.tokens, first[:, None, None], axis=1)[:, 0]
    better = (score > beams.best_score) & (beams.number == count)
    tokens = jnp.where(better[:, None], cut, beams.best)
    return tokens, jnp.where(better, score, beams.best_score)


def beam_search(
    generator: Generator,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    *,
    width: int = 4,
    alpha: float = 0.6,
    ends: Sequence[int] = (),
) -> tuple[list[list[int]], list[float]]:
    """The best continuation of each prompt without its end token, and its normalised score.

    A hypothesis ends with the end token, or with one of `ends`, which stays in it.

    Raises:
      ConfigError: fewer than one beam, or no end token.
      DataError: a prompt that with `max_tokens` does not fit the context, or unequal ones for a
        fixed pattern.
    """
    require(width >= 1, f"beams must be at least 1, got {width}")
    config, end = generator.config, generator.end
    if end is None:
        raise ConfigError("beam search needs an end token")
    check_prompts(prompts, config.length, max_tokens)
    decoding = generator.read(prompts, max_tokens)
    final = np.zeros(config.vocab, bool)
    final[[end, *ends]] = True
    tokens, scores = search(
        config, generator.params, decoding, width, max_tokens, end, final, alpha, generator.vocab
    )
    rows = np.asarray(tokens).tolist()
    texts = [row[: row.index(end)] if end in row else row for row in rows]
    return texts, np.asarray(scores).tolist()
