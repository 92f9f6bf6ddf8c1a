"""The state of a server's slots on the device, and the program that decodes all of them.

It takes the state, donated, and gives it back, as do those that read prompts (prefill.py). Requests
differ in the numbers of the state alone, so that none of them compiles anything; shapes are few,
and compiled beforehand.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lm.decode.penalties import Terms, penalised
from lm.decode.sampling import sample_each
from lm.models.gpt import Cache, GptConfig, forward
from lm.nn.cache import LayerCache
from lm.serve.request import NOTHING, Asked, Likely

ALTERNATIVES = 20  # likeliest tokens that are told beside each, if any are asked for


@flax.struct.dataclass
class Ask:
    """How a slot's tokens are drawn; each [B], or a scalar for one slot."""

    seed: Any  # uint32
    number: Any  # int32: which of the answers to a prompt, whose draws differ
    temperature: Any  # float32
    top_k: Any  # int32; the size of the vocabulary: all
    top_p: Any  # float32; 1: all
    min_p: Any  # float32; 0: all
    told: Any  # bool: whether log-probabilities are wanted
    terms: Terms

    @classmethod
    def of(cls, asked: Asked, vocab: int) -> "Ask":
        """That of one request, as scalars."""
        sampling = asked.sampling
        return cls(
            seed=np.uint32(asked.seed), number=np.int32(asked.number),
            temperature=np.float32(sampling.temperature),
            top_k=np.int32(min(sampling.top_k or vocab, vocab)),
            top_p=np.float32(1.0 if sampling.top_p is None else sampling.top_p),
            min_p=np.float32(sampling.min_p), told=np.bool_(asked.alternatives),
            terms=Terms.of(asked.penalties, asked.ends, vocab),
        )  # fmt: skip


@flax.struct.dataclass
class Slots:
    """Where every slot stands."""

    layers: tuple[LayerCache, ...]
    logits: jax.Array  # [B V] of the token that comes next, of the ids that are tokens
    filled: jax.Array  # [B] int32: tokens in the cache
    drawn: jax.Array  # [B] int32: tokens drawn
    marks: jax.Array  # [B V] int32: which tokens are there, as `penalised` has them
    ask: Ask

    @classmethod
    def empty(cls, config: GptConfig, vocab: int, count: int, length: int) -> "Slots":
        """`count` slots of `length` tokens."""
        rounds = config.layers // len(config.pattern)
        zeros = functools.partial(jnp.zeros, count)
        none = Ask.of(NOTHING, vocab)
        return cls(
            layers=tuple(
                LayerCache.empty(config, pattern, count, length)
                for pattern in config.pattern * rounds
            ),
            logits=jnp.zeros((count, vocab), jnp.float32),
            filled=zeros(jnp.int32),
            drawn=zeros(jnp.int32),
            marks=jnp.zeros((count, vocab), jnp.int32),
            ask=jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), none),
        )  # fmt: skip


@flax.struct.dataclass
class Likelihood:
    """How likely tokens are, in nats, and which are likeliest there, from the first; zeros where
    nobody asked."""

    logp: jax.Array  # [...]
    ids: jax.Array  # [... K] int32
    logps: jax.Array  # [... K]

    @classmethod
    def none(cls, vocab: int, *shape: int) -> "Likelihood":
        most = min(ALTERNATIVES, vocab)
        return cls(
            jnp.zeros(shape), jnp.zeros((*shape, most), jnp.int32), jnp.zeros((*shape, most))
        )

    def rows(self, first: int, last: int) -> Likely:
        """Of these rows, on the host."""
        logp, ids, logps = (
            np.asarray(leaf)[first:last] for leaf in (self.logp, self.ids, self.logps)
        )
        return Likely(logp, ids, logps)

    @classmethod
    def of(cls, logits: jax.Array, tokens: jax.Array) -> "Likelihood":
        """Of `tokens` [B] under `logits` [B V]."""
        logp = jax.nn.log_softmax(logits)
        logps, ids = jax.lax.top_k(logp, min(ALTERNATIVES, logits.shape[-1]))
        return cls(jnp.take_along_axis(logp, tokens[:, None], axis=-1)[:, 0], ids, logps)


@functools.partial(jax.jit, static_argnames=("config", "rows", "reach"), donate_argnames="slots")
def decode(
    config: GptConfig, params: Any, slots: Slots, active: jax.Array, rows: int, reach: int
) -> tuple[Slots, jax.Array, jax.Array, Likelihood]:
    """Draws a token for each of the first `rows` slots, and reads it.

    Args:
      active: [B] bool: slots that count; the others stay as they are.
      reach: slots of the cache that are looked at: more than any active slot has filled.

    Returns:
      The slots, the tokens [rows], whether each was drawn from numbers [rows], and how likely it
      was.
    """
    active = active[:rows]
    ask = jax.tree.map(lambda leaf: leaf[:rows], slots.ask)
    logits, filled, drawn = (leaf[:rows] for leaf in (slots.logits, slots.filled, slots.drawn))
    keys = jax.vmap(lambda seed, number: jax.random.fold_in(jax.random.key(seed), number))(
        ask.seed, ask.number
    )
    keys = jax.vmap(jax.random.fold_in)(keys, drawn)
    idle = jnp.where(active, ask.temperature, 0.0)  # what is not read need not be drawn

    def pick(logits: jax.Array) -> jax.Array:
        return sample_each(keys, logits, idle, ask.top_k, ask.top_p, ask.min_p)

    tokens = jax.lax.cond(
        jnp.any(active & ask.terms.any),
        lambda: pick(penalised(logits, slots.marks[:rows], drawn, ask.terms)),
        lambda: pick(logits),
    )
    finite = jnp.isfinite(jnp.max(logits, axis=-1))  # one that is no number is the largest
    likelihood = jax.lax.cond(
        jnp.any(active & ask.told),
        lambda: Likelihood.of(logits, tokens),
        lambda: Likelihood.none(logits.shape[-1], rows),
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
        logits=first(
            slots.logits, jnp.where(active[:, None], new[:, 0, : logits.shape[-1]], logits)
        ),
        filled=first(slots.filled, filled + active),
        drawn=first(slots.drawn, drawn + active),
        marks=slots.marks.at[jnp.arange(rows), tokens].add(2 * active),
        ask=slots.ask,
    )
    return slots, tokens, finite, likelihood
