"""Log-probabilities of given tokens: read at once, or behind a prompt that others share.

`score_whole` reads each row once and computes logits only where they are asked for: the output
layer of a small model is most of its work. `score_after` continues prompts that `read_prompts` has
read, so that the answers to one question pay for the question once.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from lm.decode.generate import Decoding
from lm.losses.language import token_losses
from lm.models.gpt import GptConfig, forward, forward_hidden, head

CHUNK = 512  # positions whose logits are held at once


@functools.partial(jax.jit, static_argnames="config")
def score_whole(
    config: GptConfig, params: Any, tokens: jax.Array, places: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What the token after each place of a row has for a probability.

    Args:
      params: as trained.
      tokens: [B T], rows of any length: what follows a place does not change it.
      places: [B P], positions in `tokens`.
      targets: [B P], the tokens that are to come next there.

    Returns:
      [B P] log-probabilities of the targets in nats, and [B P] bool: the target is the likeliest.
    """
    hidden, _ = forward_hidden(config, params, tokens)
    hidden = jnp.take_along_axis(hidden, places[..., None], axis=1)
    chunk = math.gcd(places.size, CHUNK)

    def score(part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        states, wanted = part
        logits = head(config, params, states[None])[0]
        return -token_losses(logits, wanted), jnp.argmax(logits, axis=-1) == wanted

    parts = hidden.reshape(-1, chunk, hidden.shape[-1]), targets.reshape(-1, chunk)
    logp, likeliest = jax.lax.map(score, parts)
    return logp.reshape(places.shape), likeliest.reshape(places.shape)


@functools.partial(jax.jit, static_argnames="config")
def score_after(
    config: GptConfig, params: Any, decoding: Decoding, prompt: jax.Array, tokens: jax.Array,
    counts: jax.Array,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """Log-probability of continuations of prompts that have been read.

    Args:
      params: those of `decoding_params`.
      prompt: [B] which row of `decoding` each continues; one may be continued many times.
      tokens: [B P] the continuations.
      counts: [B] how many of `tokens` are real.

    Returns:
      [B] their log-probabilities in nats, and [B] bool: every token was the likeliest.
    """

    def score(number: jax.Array, logits: jax.Array, total: Any) -> Any:
        logp, greedy = total
        token, counted = tokens[:, number], number < counts
        right = jnp.argmax(logits, axis=-1) == token
        return logp - jnp.where(counted, token_losses(logits, token), 0), greedy & (
            right | ~counted
        )

    def step(number: jax.Array, carry: Any) -> Any:
        cache, total = carry
        before = jax.lax.dynamic_slice_in_dim(tokens, number - 1, 1, axis=1)
        logits, cache = forward(config, params, before, cache=cache)
        return cache, score(number, logits[:, 0], total)

    rows = prompt.shape[0]
    first = jnp.zeros(rows, jnp.float32), jnp.full(rows, True)
    total = score(jnp.int32(0), decoding.logits[prompt], first)
    cache = decoding.cache.rows(config, prompt)
    _, total = jax.lax.fori_loop(1, jnp.max(counts), step, (cache, total))
    return total
