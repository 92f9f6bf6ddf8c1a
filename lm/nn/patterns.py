"""Which keys a query sees: the patterns of sparse attention, their count, and where to find them.

Strided and fixed are the merged patterns of Child et al. 2019 (arXiv 1904.10509, section 4.2), in
which one head sees the pairs of both parts; the parts by themselves are for layers whose heads
differ, ("banded", "columns") and ("block", "summaries"). Banded is GPT-3's locally banded layer;
powers of two looks 0, 1, 2, 4, 8, ... tokens back.

`visible` is the definition. A token always sees itself: before the first summary column of the
fixed pattern a head of summaries alone would see nothing, and softmax over nothing is NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lm.core.errors import ConfigError
from lm.nn.config import BlockConfig, LayerPattern, Pattern


def of_head(pattern: LayerPattern, head: int, config: BlockConfig) -> tuple[Pattern, int]:
    """The pattern of a head, and the head's number among those that have it."""
    if not isinstance(pattern, tuple):
        return pattern, head
    size = config.heads // len(pattern)
    return pattern[head // size], head % size


def visible(
    queries: Array, keys: Array, pattern: LayerPattern, config: BlockConfig, head: int = 0
) -> Array:
    """Which key slots [S] each query slot [T] sees in a head of this pattern. [T S] bool"""
    pattern, head = of_head(pattern, head, config)
    i, j = queries[:, None], keys[None, :]
    distance = i - j
    seen = distance >= 0 if config.causal else jnp.full(distance.shape, True)
    stride = config.stride
    start = summary_starts(config, head + 1)[-1]
    summary = (j % stride >= start) & (j % stride < start + config.summary)
    if pattern == "banded":
        seen &= jnp.abs(distance) < config.band
    elif pattern == "strided":
        seen &= (distance < stride) | (distance % stride == 0)
    elif pattern == "columns":
        seen &= distance % stride == 0
    elif pattern == "fixed":
        seen &= (i // stride == j // stride) | summary
    elif pattern == "block":
        seen &= i // stride == j // stride
    elif pattern == "summaries":
        seen &= summary | (distance == 0)
    elif pattern == "powers":
        seen &= distance & (distance - 1) == 0  # 0, 1, 2, 4, 8, ...
    elif pattern != "dense":
        raise ConfigError(f"no attention pattern {pattern!r}")
    return seen


def layer_mask(
    queries: Array, keys: Array, pattern: LayerPattern, config: BlockConfig, heads: int
) -> Array:
    """`visible` for each head. [N T S], or [1 T S] where all see alike"""
    differ = isinstance(pattern, tuple) or (
        config.summary_by_head and pattern in ("fixed", "summaries")
    )
    some = range(heads if differ else 1)
    return jnp.stack([visible(queries, keys, pattern, config, head) for head in some])


def sequence_mask(
    length: int, pattern: LayerPattern, config: BlockConfig, heads: int,
    valid: Array | None = None, prefix: Array | None = None,
) -> Array:  # fmt: skip
    """Which of its own keys a sequence sees: those of the pattern and of the `prefix` [B T], where
    they are `valid` [B T]. [B|1 N|1 T T]"""
    slots = jnp.arange(length)
    mask = layer_mask(slots, slots, pattern, config, heads)[None]
    if prefix is not None:
        mask = mask | prefix[:, None, None, :]
    if valid is not None:
        mask = mask & valid[:, None, None, :]
    return mask


def summary_starts(config: BlockConfig, heads: int) -> np.ndarray:
    """Where in each block the summary columns of the first `heads` heads begin. [heads]

    All have the last columns; by head, each has those before its neighbour's, and when a block is
    used up the next begins anew at its end.
    """
    turn = np.arange(heads) % (config.stride // config.summary) if config.summary_by_head else 0
    return np.broadcast_to(config.stride - config.summary * (turn + 1), heads)


def pairs(length: int, pattern: LayerPattern, config: BlockConfig, head: int = 0) -> int:
    """The exact number of (query, key) pairs that a causal head keeps in `length` tokens."""
    pattern, head = of_head(pattern, head, config)
    n, stride, summary = length, config.stride, config.summary
    blocks, rest = divmod(n, stride)
    earlier = stride * (blocks * (blocks - 1) // 2) + rest * blocks  # blocks before each query's
    within = blocks * stride * (stride + 1) // 2 + rest * (rest + 1) // 2
    if pattern == "dense":
        return n * (n + 1) // 2
    if pattern == "banded":
        return banded_pairs(n, config.band)
    if pattern == "strided":
        return banded_pairs(n, stride) + earlier
    if pattern == "columns":
        return n + earlier
    if pattern == "fixed":
        return within + summary * earlier
    if pattern == "block":
        return within
    if pattern == "summaries":
        first = int(summary_starts(config, head + 1)[-1])
        own = [
            min(max(at - first + 1, 0), summary) + (not first <= at < first + summary)
            for at in range(stride)
        ]
        return summary * earlier + blocks * sum(own) + sum(own[:rest])
    if pattern == "powers":
        return n + sum(n - offset for offset in powers(n))
    raise ConfigError(f"no attention pattern {pattern!r}")


def mean_pairs(length: int, config: BlockConfig) -> float:
    """`pairs` of a head, averaged over those of all layers."""
    every = [(pattern, head) for pattern in config.pattern for head in range(config.heads)]
    return sum(pairs(length, pattern, config, head) for pattern, head in every) / len(every)


def banded_pairs(length: int, band: int) -> int:
    band = min(band, length)
    return band * (band + 1) // 2 + (length - band) * band


def powers(length: int) -> list[int]:
    """1, 2, 4, ... below `length`."""
    return [2**k for k in range((length - 1).bit_length())]


def slots_seen(
    slot: int | jax.Array, slots: int, pattern: LayerPattern, config: BlockConfig
) -> tuple[Array, Array] | None:
    """The few slots of a cache that a query in `slot` may see, each once, and which of them exist.

    Those of a band come in the order of a ring: slot s at s modulo their number. Of every other
    pattern they are fewer than the cache has: as many, in an order of their own, would be taken
    for the cache as it stands.

    Returns:
      [R] slots within the cache and [R] bool; None where a pattern has to look at all of them.
    """
    stride, every = config.stride, jnp.arange
    if pattern == "banded":
        ring = min(config.band, slots)
        found = slot - (slot - every(ring)) % ring
    elif pattern == "strided":
        back = [every(min(stride, slots)), every(stride, slots, stride)]
        found = slot - jnp.concatenate(back)
    elif pattern == "columns":
        found = slot - every(0, slots, stride)
    elif pattern == "powers":
        found = slot - jnp.array([0, *powers(slots)])
    elif pattern == "block":
        found = slot // stride * stride + every(min(stride, slots))
    elif pattern == "fixed" and not config.summary_by_head:
        first = slot // stride * stride
        columns = (every(0, slots, stride)[:, None] + stride - 1 - every(config.summary)).ravel()
        earlier = jnp.where(columns < first, columns, -1)
        found = jnp.concatenate([earlier, first + every(min(stride, slots))])
    else:
        return None
    if pattern != "banded" and found.size >= slots:
        return None
    exists = (found >= 0) & (found <= slot)
    return jnp.where(exists, found, 0), exists
