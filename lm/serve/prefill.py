"""The programs that read a prompt into a slot: at once, or in pieces behind each other, with what
its images say.

All shapes are few. What is read in pieces has a cache of its own until it is whole, so that
decoding beside it does not see it.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from lm.decode.penalties import marked
from lm.models.gpt import Cache, Gpt, GptConfig, Inserted, head
from lm.models.gpt_vision import GptVision, GptVisionConfig
from lm.nn.cache import LayerCache
from lm.serve.programs import Ask, Likelihood, Slots

Model = GptConfig | GptVisionConfig
CHUNK = 64  # positions whose logits are held at once


def decoder(config: Model) -> GptConfig:
    """The part that reads and writes tokens."""
    return config.text if isinstance(config, GptVisionConfig) else config


@functools.partial(jax.jit, static_argnames="config", donate_argnames="seen")
def look(
    config: GptVisionConfig, eyes: Any, seen: jax.Array, image: jax.Array, number: jax.Array
) -> jax.Array:
    """`seen` [S D] with what image `number` of a prompt [R R 3] says, one vector a place."""
    vectors: Any = GptVision(config).apply({"params": eyes}, image[None, None], method="seen")
    place = number * config.slots
    return jax.lax.dynamic_update_slice(seen, vectors[0].astype(seen.dtype), (place, 0))


def inserted(
    config: Model, seen: jax.Array | None, tokens: jax.Array, real: jax.Array,
    before: int | jax.Array = 0,
) -> Inserted | None:  # fmt: skip
    """The vectors at the image places of `tokens` [1 P]; `before`: image places before them."""
    if seen is None or not isinstance(config, GptVisionConfig):
        return None
    vectors = jnp.roll(seen, -before, axis=0)
    return Inserted(vectors=vectors[None], places=(tokens == config.image_id) & real)


def score(
    config: GptConfig, params: Any, vocab: int, hidden: jax.Array, targets: jax.Array,
    wanted: jax.Array,
) -> Likelihood:  # fmt: skip
    """How likely `targets` [P] are after `hidden` [P D], of the first `vocab` ids; zeros unless
    that is `wanted`."""
    size = len(targets)
    chunks = -(-size // CHUNK)
    short = chunks * CHUNK - size

    def found(hidden: jax.Array) -> Likelihood:
        parts = jax.lax.map(
            lambda part: Likelihood.of(head(config, params, part[0][None])[0, :, :vocab], part[1]),
            (jnp.pad(hidden, ((0, short), (0, 0))).reshape(chunks, CHUNK, -1),
             jnp.pad(targets, (0, short)).reshape(chunks, CHUNK)),
        )  # fmt: skip
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:size], parts)

    return jax.lax.cond(wanted, found, lambda _: Likelihood.none(vocab, size), hidden)


@functools.partial(jax.jit, static_argnames="config", donate_argnames="slots")
def admit(
    config: Model, params: Any, slots: Slots, slot: jax.Array, tokens: jax.Array,
    length: jax.Array, prefix: jax.Array, ask: Ask, scored: jax.Array, seen: jax.Array | None,
) -> tuple[Slots, Likelihood]:  # fmt: skip
    """Reads a prompt into a slot.

    Args:
      tokens: [1 P], of which the first `length` are the prompt. What stands behind them is never
        seen: the pattern is causal, and decoding writes over it.
      prefix: tokens from the first on that all see, for a model of mask=prefix.
      ask: of scalars.
      scored: whether the likelihood of the prompt's own tokens is wanted.
      seen: what its images say [S D].

    Returns:
      The slots, and how likely each token was that came after those of the prompt [P].
    """
    text, size = decoder(config), tokens.shape[1]
    places = jnp.arange(size)[None]
    # whole, also where a layer keeps a ring: padding must not push real tokens out of it
    layers = tuple(LayerCache.empty(text, "dense", 1, size) for _ in range(text.layers))
    nothing = jnp.zeros(1, jnp.int32)
    cache = Cache(layers=layers, valid=None, slot=jnp.zeros((), jnp.int32), padding=nothing)
    sees_all = isinstance(config, GptVisionConfig) and config.mask == "prefix"
    out: Any = Gpt(text).apply(
        {"params": params}, tokens, cache=cache,
        inserted=inserted(config, seen, tokens, places < length),
        prefix=places < prefix if sees_all else None, method="hidden",
    )  # fmt: skip
    hidden, cache = out
    last = jax.lax.dynamic_slice_in_dim(hidden, length - 1, 1, axis=1)
    vocab, following = slots.logits.shape[-1], jnp.roll(tokens[0], -1)
    likelihood = score(text, params, vocab, hidden[0], following, scored)
    return seated(text, params, slots, slot, cache.layers, last, tokens[0], length, ask), likelihood


@flax.struct.dataclass
class Scratch:
    """A prompt of which some pieces have been read."""

    layers: tuple[LayerCache, ...]  # of one row, whole
    last: jax.Array  # [1 1 D]: the state of the last real token of the newest piece

    @classmethod
    def empty(cls, config: GptConfig, length: int) -> "Scratch":
        layers = tuple(LayerCache.empty(config, "dense", 1, length) for _ in range(config.layers))
        return cls(layers=layers, last=jnp.zeros((1, 1, config.width), config.dtype))


@functools.partial(jax.jit, static_argnames=("config", "vocab", "reach"), donate_argnames="scratch")
def read_piece(
    config: Model, params: Any, vocab: int, scratch: Scratch, tokens: jax.Array, targets: jax.Array,
    start: jax.Array, length: jax.Array, scored: jax.Array, seen: jax.Array | None,
    before: jax.Array, reach: int,
) -> tuple[Scratch, Likelihood]:  # fmt: skip
    """Reads tokens [1 C], of which the first `length` are real, behind `start` others.

    Args:
      vocab: ids that are tokens.
      targets: [C], the token after each.
      seen, before: what the prompt's images say [S D], and places of them before these tokens.
      reach: slots that are looked at, at least `start + C`.

    Returns:
      The scratch, and how likely each target was [C].
    """
    text, size = decoder(config), tokens.shape[1]
    cache = Cache(
        layers=tuple(LayerCache(one.k, one.v, reach) for one in scratch.layers),
        valid=None, slot=start, padding=jnp.zeros(1, jnp.int32), behind=True,
    )  # fmt: skip
    real = jnp.arange(size)[None] < length
    out: Any = Gpt(text).apply(
        {"params": params}, tokens, cache=cache,
        inserted=inserted(config, seen, tokens, real, before), method="hidden",
    )  # fmt: skip
    hidden, cache = out
    last = jax.lax.dynamic_slice_in_dim(hidden, length - 1, 1, axis=1)
    layers = tuple(LayerCache(one.k, one.v) for one in cache.layers)
    return Scratch(layers, last), score(text, params, vocab, hidden[0], targets, scored)


@functools.partial(jax.jit, static_argnames="config", donate_argnames="slots")
def seat(
    config: GptConfig, params: Any, slots: Slots, slot: jax.Array, scratch: Scratch,
    tokens: jax.Array, length: jax.Array, ask: Ask,
) -> Slots:  # fmt: skip
    """Puts a prompt that has been read, the first `length` of `tokens` [P], into a slot."""
    return seated(config, params, slots, slot, scratch.layers, scratch.last, tokens, length, ask)


def seated(
    config: GptConfig, params: Any, slots: Slots, slot: jax.Array, layers: tuple[LayerCache, ...],
    last: jax.Array, tokens: jax.Array, length: jax.Array, ask: Ask,
) -> Slots:  # fmt: skip
    """The slots with a prompt whose last state is `last` [1 1 D] in one of them."""
    vocab = slots.logits.shape[-1]
    logits = head(config, params, last)[:, 0, :vocab]
    return Slots(
        layers=tuple(
            LayerCache(k=put(old.k, new.k, slot, length), v=put(old.v, new.v, slot, length))
            for old, new in zip(slots.layers, layers, strict=True)
        ),
        logits=jax.lax.dynamic_update_slice(slots.logits, logits, (slot, 0)),
        filled=slots.filled.at[slot].set(length),
        drawn=slots.drawn.at[slot].set(0),
        marks=slots.marks.at[slot].set(marked(tokens, jnp.arange(len(tokens)) < length, vocab)),
        ask=jax.tree.map(lambda old, new: old.at[slot].set(new), slots.ask, ask),
    )


def put(kept: jax.Array, new: jax.Array, slot: jax.Array, length: jax.Array) -> jax.Array:
    """`kept` [B*N S H] with the first `length` of `new` [N P H] in row `slot`, s at s modulo S.

    Nothing of what stood in the row stays: it is never seen, but what is no number, times a weight
    of 0, is none either.
    """
    heads, size, _ = new.shape
    ring = kept.shape[1]
    if size > ring:  # at each place the last token that belongs there
        places = jnp.arange(ring)
        new = new[:, jnp.maximum(places + (length - 1 - places) // ring * ring, 0)]
    new = jnp.pad(new, ((0, 0), (0, max(ring - size, 0)), (0, 0)))
    return jax.lax.dynamic_update_slice(kept, new.astype(kept.dtype), (slot * heads, 0, 0))
