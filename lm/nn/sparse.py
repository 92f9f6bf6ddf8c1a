"""Sparse causal attention: the pairs of a pattern (lm/nn/patterns.py) and few others, computed.

It equals attention under the pattern's mask and costs, for n tokens, a band w, a stride l and c
summary columns:

    banded   n w          strided    n (l + n / l)     columns    n^2 / l
    powers   n log2 n     fixed      n (l + c n / l)   summaries  n (l + c n / l)
    block    n l
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lm.core.errors import ConfigError
from lm.nn.config import BlockConfig
from lm.nn.dropout import DropoutKeys, dropout
from lm.nn.patterns import powers, summary_starts

MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)  # finite, so that a row without keys is not NaN

Part = tuple[Array, Array]  # context [B N T H] of some of the keys, log of their weight [B N T]


def sparse_attention(
    q: Array, k: Array, v: Array, config: BlockConfig, pattern: str,
    valid: Array | None = None, keys: DropoutKeys | None = None,
) -> Array:  # fmt: skip
    """Causal attention of a sequence to itself over the pairs of a pattern and few others.

    Args:
      q, k, v: [B N T H].
      pattern: any but "dense", of all these heads.
      valid: [B T] bool, keys that may be seen at all.
      keys: of the dropout of attention weights.

    Returns:
      [B N T H] in the dtype of `v`.
    """
    length = q.shape[2]
    block = min({"banded": config.band, "powers": 1}.get(pattern, config.stride), length)
    short = -length % block
    if valid is None:
        valid = jnp.ones((q.shape[0], length), bool)
    valid = jnp.pad(valid, ((0, 0), (0, short)))
    q, k, v = (jnp.pad(each, ((0, 0), (0, 0), (0, short), (0, 0))) for each in (q, k, v))
    rate = config.attention_dropout
    near, far = (keys.fold(0), keys.fold(1)) if keys else (None, None)
    starts = summary_starts(config, q.shape[1] if config.summary_by_head else 1)
    several = length > block  # blocks: with one there are none before it
    if pattern == "banded":
        parts = [window(q, k, v, valid, block, near, rate)]
    elif pattern == "strided":
        parts = [window(q, k, v, valid, block, near, rate)]
        parts += [columns(q, k, v, valid, block, far, rate, own=False)]
    elif pattern == "columns":
        parts = [columns(q, k, v, valid, block, far, rate, own=True)]
    elif pattern in ("fixed", "block", "summaries"):
        only = (starts, config.summary) if pattern == "summaries" else None
        parts = [within(q, k, v, valid, block, near, rate, only)]
        if several and pattern != "block":
            parts += [summaries(q, k, v, valid, block, starts, config.summary, far, rate)]
    elif pattern == "powers":
        parts = [steps(q, k, v, valid, near, rate)]
    else:
        raise ConfigError(f"no sparse attention of pattern {pattern!r}")
    return merge(parts)[:, :, :length].astype(v.dtype)


def merge(parts: list[Part]) -> Array:
    """One softmax over the keys of all parts, from the softmax of each."""
    if len(parts) == 1:
        return parts[0][0]
    shares = jax.nn.softmax(jnp.stack([weight for _, weight in parts]), axis=0)
    return sum(share[..., None] * part for share, (part, _) in zip(shares, parts, strict=True))


def softmax_over(
    scores: Array, mask: Array, v: Array, equation: str, keys: DropoutKeys | None, rate: float
) -> Part:
    """Softmax of the scaled scores where the mask holds, its context by `equation`, and log of its
    sum."""
    scores = jnp.where(mask, scores * v.shape[-1] ** -0.5, MASKED)
    total = jax.nn.logsumexp(scores, axis=-1)
    weights = dropout(jnp.exp(scores - total[..., None]), rate, keys).astype(v.dtype)
    return jnp.einsum(equation, weights, v, preferred_element_type=jnp.float32), total


def window(
    q: Array, k: Array, v: Array, valid: Array, width: int, keys: DropoutKeys | None, rate: float
) -> Part:
    """The last `width` keys of each query: a block against its own keys and the block before."""
    q, k, v = (blocked(each, width) for each in (q, k, v))  # [B N M W H]
    seen = valid.reshape(valid.shape[0], 1, -1, 1, width)
    k, v, seen = (with_previous(each, axis) for each, axis in ((k, 3), (v, 3), (seen, 4)))
    distance = jnp.arange(width)[:, None] + width - jnp.arange(2 * width)
    mask = seen & (distance >= 0) & (distance < width)
    scores = jnp.einsum("BNMWH,BNMSH->BNMWS", q, k, preferred_element_type=jnp.float32)
    return flat(softmax_over(scores, mask, v, "BNMWS,BNMSH->BNMWH", keys, rate))


def within(
    q: Array, k: Array, v: Array, valid: Array, width: int, keys: DropoutKeys | None, rate: float,
    only: tuple[np.ndarray, int] | None,
) -> Part:  # fmt: skip
    """The keys of a query's own block; `only` itself and the summary columns, if they are given."""
    q, k, v = (blocked(each, width) for each in (q, k, v))
    slots = np.arange(width)
    own = (slots[:, None] >= slots)[None]  # [N W W], or 1 for all heads
    if only is not None:
        starts, summary = only
        chosen = (slots >= starts[:, None]) & (slots < starts[:, None] + summary)
        own = own & (chosen[:, None] | np.eye(width, dtype=bool))
    mask = valid.reshape(valid.shape[0], 1, -1, 1, width) & own[:, None]
    scores = jnp.einsum("BNMWH,BNMSH->BNMWS", q, k, preferred_element_type=jnp.float32)
    return flat(softmax_over(scores, mask, v, "BNMWS,BNMSH->BNMWH", keys, rate))


def columns(
    q: Array, k: Array, v: Array, valid: Array, stride: int, keys: DropoutKeys | None, rate: float,
    *, own: bool,
) -> Part:  # fmt: skip
    """Every `stride`-th key: causal attention down the columns of a grid, from a query's `own` row
    or from the row above."""
    q, k, v = (blocked(each, stride) for each in (q, k, v))  # [B N M W H]
    seen = jnp.swapaxes(valid.reshape(valid.shape[0], -1, stride), 1, 2)[:, None, :, None]
    rows = jnp.arange(q.shape[2])
    scores = jnp.einsum("BNMWH,BNSWH->BNWMS", q, k, preferred_element_type=jnp.float32)
    mask = seen & (rows[:, None] + own > rows)
    context, total = softmax_over(scores, mask, v, "BNWMS,BNSWH->BNMWH", keys, rate)
    return flat((context, jnp.swapaxes(total, 2, 3)))


def summaries(
    q: Array, k: Array, v: Array, valid: Array, stride: int, starts: np.ndarray, summary: int,
    keys: DropoutKeys | None, rate: float,
) -> Part:  # fmt: skip
    """The `summary` keys from `starts` [N], or [1] for all heads, of every earlier block."""
    q, k, v = (blocked(each, stride) for each in (q, k, v))
    seen = valid.reshape(valid.shape[0], 1, -1, stride)
    if len(starts) == 1:
        chosen = slice(starts[0], starts[0] + summary)
        k, v, seen = k[:, :, :, chosen], v[:, :, :, chosen], seen[..., chosen]
    else:
        picked = (starts[:, None] + np.arange(summary))[None, :, None]  # [1 N 1 C]
        k, v = (jnp.take_along_axis(each, picked[..., None], axis=3) for each in (k, v))
        seen = jnp.take_along_axis(seen, picked, axis=3)
    rows = jnp.arange(q.shape[2])
    # k, v [B N S C H], seen [B N S C] -> mask [B N M W S C], N and W 1 where all are alike
    mask = seen[:, :, None, None] & (rows[:, None] > rows)[:, None, :, None]
    scores = jnp.einsum("BNMWH,BNSCH->BNMWSC", q, k, preferred_element_type=jnp.float32)
    joined = (*scores.shape[:4], -1)
    mask = jnp.broadcast_to(mask, (*mask.shape[:2], *scores.shape[2:]))
    mask = mask.reshape(*mask.shape[:4], -1)
    v = v.reshape(*v.shape[:2], -1, v.shape[-1])
    part = softmax_over(scores.reshape(joined), mask, v, "BNMWS,BNSH->BNMWH", keys, rate)
    return flat(part)


def steps(
    q: Array, k: Array, v: Array, valid: Array, keys: DropoutKeys | None, rate: float
) -> Part:
    """The query itself and 1, 2, 4, ... tokens back: one shifted copy of the keys for each."""
    length = q.shape[2]
    offsets = [0, *powers(length)]
    scores = jnp.stack(
        [
            jnp.einsum("BNTH,BNTH->BNT", q, shifted(k, by, 2), preferred_element_type=jnp.float32)
            for by in offsets
        ],
        axis=-1,
    )
    mask = jnp.stack([shifted(valid, by, 1) for by in offsets], axis=-1)[:, None]
    scores = jnp.where(mask, scores * q.shape[-1] ** -0.5, MASKED)
    total = jax.nn.logsumexp(scores, axis=-1)
    weights = dropout(jnp.exp(scores - total[..., None]), rate, keys)
    context = jnp.zeros(q.shape, jnp.float32)
    for number, by in enumerate(offsets):
        context += weights[..., number, None] * shifted(v, by, 2).astype(jnp.float32)
    return context, total


def blocked(x: Array, width: int) -> Array:
    """[B N T H] -> [B N T/width width H]"""
    return x.reshape(*x.shape[:2], -1, width, x.shape[-1])


def with_previous(x: Array, axis: int) -> Array:
    """Each block, along axis 2, behind the one before it; the first behind zeros."""
    return jnp.concatenate([shifted(x, 1, 2), x], axis=axis)


def shifted(x: Array, by: int, axis: int) -> Array:
    """`x` moved `by` places towards the end, zeros (or False) in front."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (by, 0)
    return jax.lax.slice_in_dim(jnp.pad(x, widths), 0, x.shape[axis], axis=axis)


def flat(part: Part) -> Part:
    """Blocks of a part as one axis of tokens again."""
    context, total = part
    shape = (*context.shape[:2], -1)
    return context.reshape(*shape, context.shape[-1]), total.reshape(shape)
