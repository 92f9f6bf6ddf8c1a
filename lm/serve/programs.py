"""What a server runs on the device: one program reads a prompt into a slot, one decodes all slots.

Both take the state of all slots, donated, and give it back. Requests differ in the numbers of the
state alone, so that none of them compiles anything; shapes are few, and compiled beforehand.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from lm.decode.sampling import sample_each
from lm.models.gpt import Cache, GptConfig, forward, forward_hidden, head
from lm.nn.attention import LayerCache

ALTERNATIVES = 20  # likeliest tokens that are told beside each, if any are asked for
CHUNK = 64  # positions whose logits are held at once


@flax.struct.dataclass
class Ask:
    """How a slot's tokens are drawn; each [B], or a scalar for one slot."""

    seed: Any  # uint32
    number: Any  # int32: which of the answers to a prompt, whose draws differ
    temperature: Any  # float32
    top_k: Any  # int32; the size of the vocabulary: all
    top_p: Any  # float32; 1: all
    told: Any  # bool: whether log-probabilities are wanted


@flax.struct.dataclass
class Slots:
    """Where every slot stands."""

    layers: tuple[LayerCache, ...]
    logits: jax.Array  # [B V] of the token that comes next
    filled: jax.Array  # [B] int32: tokens in the cache
    drawn: jax.Array  # [B] int32: tokens drawn
    ask: Ask

    @classmethod
    def empty(cls, config: GptConfig, count: int, length: int) -> "Slots":
        """`count` slots of `length` tokens."""
        rounds = config.layers // len(config.pattern)
        zeros = functools.partial(jnp.zeros, count)
        return cls(
            layers=tuple(
                LayerCache.empty(config, pattern, count, length)
                for pattern in config.pattern * rounds
            ),
            logits=jnp.zeros((count, config.vocab), jnp.float32),
            filled=zeros(jnp.int32),
            drawn=zeros(jnp.int32),
            ask=Ask(
                seed=zeros(jnp.uint32), number=zeros(jnp.int32), temperature=zeros(jnp.float32),
                top_k=zeros(jnp.int32), top_p=zeros(jnp.float32), told=zeros(bool),
            ),
        )  # fmt: skip


@flax.struct.dataclass
class Likelihood:
    """How likely tokens are, in nats, and which are likeliest there, from the first; zeros where
    nobody asked."""

    logp: jax.Array  # [...]
    ids: jax.Array  # [... K] int32
    logps: jax.Array  # [... K]

    @classmethod
    def none(cls, config: GptConfig, *shape: int) -> "Likelihood":
        most = min(ALTERNATIVES, config.vocab)
        return cls(
            jnp.zeros(shape), jnp.zeros((*shape, most), jnp.int32), jnp.zeros((*shape, most))
        )

    @classmethod
    def of(cls, logits: jax.Array, tokens: jax.Array) -> "Likelihood":
        """Of `tokens` [B] under `logits` [B V]."""
        logp = jax.nn.log_softmax(logits)
        logps, ids = jax.lax.top_k(logp, min(ALTERNATIVES, logits.shape[-1]))
        return cls(jnp.take_along_axis(logp, tokens[:, None], axis=-1)[:, 0], ids, logps)


@functools.partial(jax.jit, static_argnames="config", donate_argnames="slots")
def admit(
    config: GptConfig, params: Any, slots: Slots, slot: jax.Array, tokens: jax.Array,
    length: jax.Array, ask: Ask, scored: jax.Array,
) -> tuple[Slots, Likelihood]:  # fmt: skip
    """Reads a prompt into a slot.

    Args:
      tokens: [1 P], of which the first `length` are the prompt. What stands behind them is never
        seen: the pattern is causal, and decoding writes over it.
      ask: of scalars.
      scored: whether the likelihood of the prompt's own tokens is wanted.

    Returns:
      The slots, and how likely each token of the prompt was after those before it [P-1].
    """
    size = tokens.shape[1]
    layers = tuple(
        LayerCache.empty(config, "dense", 1, size) for _ in range(config.layers)
    )  # whole, also where a layer keeps a ring: padding must not push real tokens out of it
    nothing = jnp.zeros(1, jnp.int32)
    cache = Cache(layers=layers, valid=None, slot=jnp.zeros((), jnp.int32), padding=nothing)
    hidden, cache = forward_hidden(config, params, tokens, cache)
    last = jax.lax.dynamic_slice_in_dim(hidden, length - 1, 1, axis=1)
    logits = head(config, params, last)[:, 0]

    def score(hidden: jax.Array) -> Likelihood:
        chunks = -(-(size - 1) // CHUNK)
        states = jnp.pad(hidden[0, :-1], ((0, chunks * CHUNK - size + 1), (0, 0)))
        targets = jnp.pad(tokens[0, 1:], (0, chunks * CHUNK - size + 1))
        found = jax.lax.map(
            lambda part: Likelihood.of(head(config, params, part[0][None])[0], part[1]),
            (states.reshape(chunks, CHUNK, -1), targets.reshape(chunks, CHUNK)),
        )
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: size - 1], found)

    likelihood = jax.lax.cond(scored, score, lambda _: Likelihood.none(config, size - 1), hidden)
    kept = tuple(
        LayerCache(k=put(old.k, new.k, slot, length), v=put(old.v, new.v, slot, length))
        for old, new in zip(slots.layers, cache.layers, strict=True)
    )
    return (
        Slots(
            layers=kept,
            logits=jax.lax.dynamic_update_slice(slots.logits, logits, (slot, 0)),
            filled=slots.filled.at[slot].set(length),
            drawn=slots.drawn.at[slot].set(0),
            ask=jax.tree.map(lambda old, new: old.at[slot].set(new), slots.ask, ask),
        ),
        likelihood,
    )


def put(kept: jax.Array, new: jax.Array, slot: jax.Array, length: jax.Array) -> jax.Array:
    """`kept` [B*N S H] with the first `length` of `new` [N P H] in row `slot`, s at s modulo S."""
    heads, size, _ = new.shape
    ring = kept.shape[1]
    if size > ring:  # at each place the last token that belongs there
        places = jnp.arange(ring)
        new = new[:, jnp.maximum(places + (length - 1 - places) // ring * ring, 0)]
    return jax.lax.dynamic_update_slice(kept, new.astype(kept.dtype), (slot * heads, 0, 0))


@functools.partial(jax.jit, static_argnames=("config", "rows", "reach"), donate_argnames="slots")
def decode(
    config: GptConfig, params: Any, slots: Slots, active: jax.Array, rows: int, reach: int
) -> tuple[Slots, jax.Array, Likelihood]:
    """Draws a token for each of the first `rows` slots, and reads it.

    Args:
      active: [B] bool: slots that count; the others stay as they are.
      reach: slots of the cache that are looked at: more than any active slot has filled.

    Returns:
      The slots, the tokens [rows], and how likely each was.
    """
    active = active[:rows]
    ask = jax.tree.map(lambda leaf: leaf[:rows], slots.ask)
    logits, filled, drawn = (leaf[:rows] for leaf in (slots.logits, slots.filled, slots.drawn))
    keys = jax.vmap(lambda seed, number: jax.random.fold_in(jax.random.key(seed), number))(
        ask.seed, ask.number
    )
    keys = jax.vmap(jax.random.fold_in)(keys, drawn)
    idle = jnp.where(active, ask.temperature, 0.0)  # what is not read need not be drawn
    tokens = sample_each(keys, logits, idle, ask.top_k, ask.top_p)
    likelihood = jax.lax.cond(
        jnp.any(active & ask.told),
        lambda: Likelihood.of(logits, tokens),
        lambda: Likelihood.none(config, rows),
    )
    cache = Cache(
        layers=tuple(LayerCache(layer.k, layer.v, reach) for layer in slots.layers),
        valid=None,
        slot=filled,
        padding=jnp.zeros(rows, jnp.int32),
    )
    new, cache = forward(config, params, tokens[:, None], cache=cache)

    def first(old: jax.Array, changed: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(old, changed, 0, axis=0)

    slots = Slots(
        layers=tuple(LayerCache(layer.k, layer.v) for layer in cache.layers),
        logits=first(slots.logits, jnp.where(active[:, None], new[:, 0], logits)),
        filled=first(slots.filled, filled + active),
        drawn=first(slots.drawn, drawn + active),
        ask=slots.ask,
    )
    return slots, tokens, likelihood
