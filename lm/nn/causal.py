"""Dense causal attention in bfloat16 on CPUs, a row of the batch at a time.

XLA on CPUs multiplies bfloat16 at speed only in rows: of the products that the gradient has, the
ones with transposed operands are made from transposed scores here, as FlashAttention does (Dao et
al. 2022, algorithm 4), from the logarithms of the sums. One row's scores also stay in the caches.
"""

from typing import Any

import jax
import jax.numpy as jnp

from lm.core.dot import einsum
from lm.nn.sparse import MASKED

BLOCK = 128  # of queries, or of keys


@jax.custom_vjp
def causal_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """`attend` with a causal mask and without dropout.

    Args:
      q, k, v: [B N T H].

    Returns:
      [B N T H] in the dtype of `v`.
    """
    return forward(q, k, v)[0]


def forward(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, Any]:
    """Contexts, and what the backward pass needs."""
    context, log_sums = jax.lax.map(lambda row: contexts(*row), (q, k, v))
    return context, (q, k, v, context, log_sums)


def backward(kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of queries, keys and values for that of the contexts, `g` [B N T H]."""
    made: tuple[jax.Array, jax.Array, jax.Array] = jax.lax.map(
        lambda row: gradients(*row), (*kept, g)
    )
    return made


def contexts(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """By blocks of queries, each against the keys that it sees: contexts, and log of the sums.

    Args:
      q, k, v: [N T H] of a row.

    Returns:
      [N T H] and [N T].
    """
    made, log_sums = [], []
    for first, last in spans(q.shape[1]):
        scores = einsum("NTH,NSH->NTS", q[:, first:last], k[:, :last]) * q.shape[-1] ** -0.5
        seen = jnp.arange(first, last)[:, None] >= jnp.arange(last)
        scores = jnp.where(seen, scores, MASKED)
        top = jnp.max(scores, axis=-1, keepdims=True)
        powers = jnp.exp(scores - top)
        total = jnp.sum(powers, axis=-1, keepdims=True)
        context = einsum("NTS,NSH->NTH", powers.astype(v.dtype), v[:, :last]) / total
        made.append(context.astype(v.dtype))
        log_sums.append((top + jnp.log(total))[..., 0])
    return jnp.concatenate(made, 1), jnp.concatenate(log_sums, 1)


def gradients(
    q: jax.Array, k: jax.Array, v: jax.Array, context: jax.Array, log_sums: jax.Array, g: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """By blocks of keys, each against the queries that see it: gradients of q, k and v [N T H]."""
    length, scale = q.shape[1], q.shape[-1] ** -0.5
    share = jnp.sum(context.astype(jnp.float32) * g, axis=-1)[:, None]  # [N 1 T]
    log_sums, k_across = log_sums[:, None], jnp.swapaxes(k, 1, 2)
    of_q, of_k, of_v = jnp.zeros(k_across.shape, jnp.float32), [], []
    for first, last in spans(length):
        q_on, g_on = q[:, first:], g[:, first:]
        scores = einsum("NSH,NTH->NST", k[:, first:last], q_on) * scale
        seen = jnp.arange(first, length) >= jnp.arange(first, last)[:, None]
        weights = jnp.where(seen, jnp.exp(scores - log_sums[..., first:]), 0.0)
        of_v.append(einsum("NST,NTH->NSH", weights.astype(v.dtype), g_on))
        of_weights = einsum("NSH,NTH->NST", v[:, first:last], g_on)
        of_scores = (weights * (of_weights - share[..., first:]) * scale).astype(q.dtype)
        of_k.append(einsum("NST,NTH->NSH", of_scores, q_on))
        from_keys = einsum("NHS,NST->NHT", k_across[..., first:last], of_scores)
        of_q += jnp.pad(from_keys, ((0, 0), (0, 0), (first, 0)))
    dk, dv = (jnp.concatenate(parts, 1) for parts in (of_k, of_v))
    return jnp.swapaxes(of_q, 1, 2).astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)


def spans(length: int) -> list[tuple[int, int]]:
    """First position of each block, and the first after it."""
    return [(first, min(first + BLOCK, length)) for first in range(0, length, BLOCK)]


causal_attention.defvjp(forward, backward)
