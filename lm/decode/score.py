"""Log-probabilities of given tokens: read at once, or behind a prompt that others share.

`score_whole` reads rows from their beginning. `score_after` continues prompts that `read_prompts`
has read, so that the answers to one question pay for the question once. Logits are computed where
they are asked for and nowhere else: the output layer of a small model is most of its work.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from lm.decode.generate import Decoding
from lm.losses.language import token_losses
from lm.models.gpt import GptConfig, forward_hidden, head

CHUNK = 512  # positions whose logits are held at once


def score_states(
    config: GptConfig, params: Any, states: jax.Array, places: jax.Array, targets: jax.Array,
    count: jax.Array,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """How likely each target is, some at a time.

    Args:
      states: [X D] hidden states.
      places: [P] the state after which each target comes.
      targets: [P].
      count: how many of the targets are real; the others cost nothing.

    Returns:
      [P] log-probabilities in nats, and [P] bool: no other token is likelier.
    """
    total = places.shape[0]
    chunk = min(total, CHUNK)
    places, targets = (jnp.pad(each, (0, -total % chunk)) for each in (places, targets))

    def score(number: jax.Array, found: Any) -> Any:
        at, wanted = (
            jax.lax.dynamic_slice_in_dim(each, number * chunk, chunk) for each in (places, targets)
        )
        logits = head(config, params, states[at][None])[0]
        losses = token_losses(logits, wanted)
        picked = jnp.take_along_axis(logits, wanted[:, None], axis=-1)[:, 0]
        new = -losses, picked >= jnp.max(logits, axis=-1)
        return tuple(
            jax.lax.dynamic_update_slice_in_dim(old, part, number * chunk, axis=0)
            for old, part in zip(found, new, strict=True)
        )

    empty = jnp.zeros(places.shape, jnp.float32), jnp.zeros(places.shape, bool)
    logp, likeliest = jax.lax.fori_loop(0, -(-count // chunk), score, empty)
    return logp[:total], likeliest[:total]


@functools.partial(jax.jit, static_argnames="config")
def score_whole(
    config: GptConfig, params: Any, tokens: jax.Array, places: jax.Array, targets: jax.Array,
    count: jax.Array,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """How likely the tokens after some places of rows are.

    Args:
      params: as trained.
      tokens: [B T], rows of any length: what follows a place does not change it.
      places: [P], positions in `tokens`, row after row.
      targets: [P], the tokens that are to come next there.
      count: how many of the targets are real.

    Returns:
      [P] log-probabilities in nats, and [P] bool: no other token is likelier.
    """
    hidden, _ = forward_hidden(config, params, tokens)
    states = hidden.reshape(-1, hidden.shape[-1])
    return score_states(config, params, states, places, targets, count)


@functools.partial(jax.jit, static_argnames="config")
def score_after(
    config: GptConfig, params: Any, decoding: Decoding, prompt: jax.Array, tokens: jax.Array,
    counts: jax.Array, places: jax.Array,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """How likely continuations are of prompts that have been read.

    Args:
      params: those of `decoding_params`.
      prompt: [B] which row of `decoding` each continues; one may be continued many times.
      tokens: [B P] the continuations.
      counts: [B] how many of `tokens` are real.
      places: [B * P] the places of the real ones, but for the first of each row, in
        `tokens` as one axis, and behind them any.

    Returns:
      [B] log-probabilities in nats, and [B] bool: at no token was another likelier.
    """
    rows, length = tokens.shape
    first = decoding.logits[prompt]
    logp = -token_losses(first, tokens[:, 0])
    picked = jnp.take_along_axis(first, tokens[:, :1], axis=-1)[:, 0]
    greedy = picked >= jnp.max(first, axis=-1)

    def step(number: jax.Array, carry: Any) -> Any:
        cache, states = carry
        before = jax.lax.dynamic_slice_in_dim(tokens, number - 1, 1, axis=1)
        hidden, cache = forward_hidden(config, params, before, cache)
        return cache, jax.lax.dynamic_update_slice_in_dim(states, hidden, number, axis=1)

    cache = decoding.cache.rows(config, prompt)
    states = jnp.zeros((rows, length, config.width), config.dtype)
    _, states = jax.lax.fori_loop(1, jnp.max(counts), step, (cache, states))
    flat = states.reshape(rows * length, config.width)
    count = jnp.sum(counts) - rows
    more, likeliest = score_states(config, params, flat, places, tokens.reshape(-1)[places], count)
    real = jnp.arange(places.shape[0]) < count
    row = places // length
    logp = logp.at[row].add(jnp.where(real, more, 0))
    return logp, greedy & (jnp.zeros(rows, jnp.int32).at[row].add(real & ~likeliest) == 0)
