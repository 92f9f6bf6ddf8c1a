"""Sparse causal attention: the pairs of a pattern, their count, and a computation of few others.

Strided and fixed are the merged patterns of Child et al. 2019 (arXiv 1904.10509, section 4.2);
banded is the locally banded layer of GPT-3; powers of two looks back 0, 1, 2, 4, 8, ... tokens.
`visible` is the definition. `sparse_attention` equals attention under that mask and costs, for n
tokens, a band w, a stride l and c summary columns:

    banded   n w          strided  n (l + n / l)
    powers   n log2 n     fixed    n (l + c n / l)
"""

import jax
import jax.numpy as jnp
from jax import Array

from lm.core.errors import ConfigError
from lm.nn.config import BlockConfig
from lm.nn.dropout import DropoutKeys, dropout

MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)  # finite, so that a row without keys is not NaN

Part = tuple[Array, Array]  # context [B N T H] of some of the keys, log of their weight [B N T]


def visible(queries: Array, keys: Array, pattern: str, config: BlockConfig) -> Array:
    """Which key slots [S] each query slot [T] sees under a pattern. [T S] bool"""
    i, j = queries[:, None], keys[None, :]
    distance = i - j
    seen = distance >= 0 if config.causal else jnp.full(distance.shape, True)
    stride = config.stride
    if pattern == "banded":
        seen &= jnp.abs(distance) < config.band
    elif pattern == "strided":
        seen &= (distance < stride) | (distance % stride == 0)
    elif pattern == "fixed":
        seen &= (i // stride == j // stride) | (j % stride >= stride - config.summary)
    elif pattern == "powers":
        seen &= distance & (distance - 1) == 0  # 0, 1, 2, 4, 8, ...
    elif pattern != "dense":
        raise ConfigError(f"no attention pattern {pattern!r}")
    return seen


def pairs(length: int, pattern: str, config: BlockConfig) -> int:
    """The exact number of (query, key) pairs that a causal pattern keeps in `length` tokens."""
    n, stride, summary = length, config.stride, config.summary
    blocks, rest = divmod(n, stride)
    if pattern == "dense":
        return n * (n + 1) // 2
    if pattern == "banded":
        band = min(config.band, n)
        return band * (band + 1) // 2 + (n - band) * band
    if pattern == "strided":
        near = min(stride, n)
        local = near * (near + 1) // 2 + (n - near) * near
        return local + stride * (blocks * (blocks - 1) // 2) + rest * blocks
    if pattern == "fixed":
        local = blocks * stride * (stride + 1) // 2 + rest * (rest + 1) // 2
        return local + summary * (stride * (blocks * (blocks - 1) // 2) + rest * blocks)
    if pattern == "powers":
        return n + sum(n - offset for offset in powers(n))
    raise ConfigError(f"no attention pattern {pattern!r}")


def powers(length: int) -> list[int]:
    """1, 2, 4, ... below `length`."""
    return [2**k for k in range((length - 1).bit_length())]


def sparse_attention(
    q: Array, k: Array, v: Array, config: BlockConfig, pattern: str,
    valid: Array | None = None, keys: DropoutKeys | None = None,
) -> Array:  # fmt: skip
    """Causal attention of a sequence to itself over the pairs of a pattern and few others.

    Args:
      q, k, v: [B N T H].
      pattern: "banded", "strided", "fixed" or "powers".
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
    q = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    rate = config.attention_dropout
    near, far = (keys.fold(0), keys.fold(1)) if keys else (None, None)
    if pattern == "banded":
        parts = [window(q, k, v, valid, block, near, rate)]
    elif pattern == "strided":
        parts = [window(q, k, v, valid, block, near, rate)]
        parts += [columns(q, k, v, valid, block, far, rate)]
    elif pattern == "fixed":
        parts = [within(q, k, v, valid, block, near, rate)]
        parts += [summaries(q, k, v, valid, block, config.summary, far, rate)]
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
    """Softmax of the scores where the mask holds, its context by `equation`, and log of its sum."""
    scores = jnp.where(mask, scores, MASKED)
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
    q: Array, k: Array, v: Array, valid: Array, width: int, keys: DropoutKeys | None, rate: float
) -> Part:
    """The keys of a query's own block."""
    q, k, v = (blocked(each, width) for each in (q, k, v))
    slots = jnp.arange(width)
    mask = valid.reshape(valid.shape[0], 1, -1, 1, width) & (slots[:, None] >= slots)
    scores = jnp.einsum("BNMWH,BNMSH->BNMWS", q, k, preferred_element_type=jnp.float32)
    return flat(softmax_over(scores, mask, v, "BNMWS,BNMSH->BNMWH", keys, rate))


def columns(
    q: Array, k: Array, v: Array, valid: Array, stride: int, keys: DropoutKeys | None, rate: float
) -> Part:
    """Every `stride`-th key before the window: causal attention down the columns of a grid."""
    q, k, v = (blocked(each, stride) for each in (q, k, v))  # [B N M W H]
    seen = jnp.swapaxes(valid.reshape(valid.shape[0], -1, stride), 1, 2)[:, None, :, None]
    rows = jnp.arange(q.shape[2])
    scores = jnp.einsum("BNMWH,BNSWH->BNWMS", q, k, preferred_element_type=jnp.float32)
    mask = seen & (rows[:, None] > rows)
    context, total = softmax_over(scores, mask, v, "BNWMS,BNSWH->BNMWH", keys, rate)
    return flat((context, jnp.swapaxes(total, 2, 3)))


def summaries(
    q: Array, k: Array, v: Array, valid: Array, stride: int, summary: int,
    keys: DropoutKeys | None, rate: float,
) -> Part:  # fmt: skip
    """The last `summary` keys of every earlier block."""
    q, k, v = (blocked(each, stride) for each in (q, k, v))
    k, v = (each[:, :, :, -summary:] for each in (k, v))  # [B N S C H]
    seen = valid.reshape(valid.shape[0], -1, stride)[:, None, None, None, :, -summary:]
    rows = jnp.arange(q.shape[2])
    mask = seen & (rows[:, None] > rows)[:, None, :, None]  # [B 1 M W S C]
    scores = jnp.einsum("BNMWH,BNSCH->BNMWSC", q, k, preferred_element_type=jnp.float32)
    joined = (*scores.shape[:4], -1)
    mask = jnp.broadcast_to(mask, (mask.shape[0], 1, *scores.shape[2:])).reshape(
        mask.shape[0], 1, *scores.shape[2:4], -1
    )
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
    scores = jnp.where(mask, scores, MASKED)
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
