"""How attention is computed: the definition, and the way chosen for a platform and a shape."""

import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp

from lm.core import axes
from lm.core.dot import by_rows, einsum
from lm.core.errors import ConfigError
from lm.core.mesh import on_each_device, platform, ways
from lm.nn.causal import causal_attention
from lm.nn.config import BlockConfig, LayerPattern
from lm.nn.dropout import DropoutKeys, dropout
from lm.nn.patterns import sequence_mask
from lm.nn.sparse import MASKED, sparse_attention

QUERY_BLOCK = 128


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None,
    keys: DropoutKeys | None = None, rate: float = 0.0,
) -> jax.Array:  # fmt: skip
    """Scaled dot-product attention, softmax in float32: the definition.

    Args:
      q: [B N T H].
      k, v: [B N S H].
      mask: bool that broadcasts to [B N T S], true where a key is seen.
      keys, rate: dropout of the attention weights.

    Returns:
      [B N T H] in the dtype of `v`.
    """
    scores = einsum("BNTH,BNSH->BNTS", q, k)
    scores = scores * q.shape[-1] ** -0.5
    if mask is not None:
        scores = jnp.where(mask, scores, MASKED)
    weights = dropout(jax.nn.softmax(scores, axis=-1), rate, keys).astype(v.dtype)
    context = einsum("BNTS,BNSH->BNTH", weights, v)
    return context.astype(v.dtype)


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, config: BlockConfig, pattern: LayerPattern = "dense",
    valid: jax.Array | None = None, keys: DropoutKeys | None = None,
    prefix: jax.Array | None = None,
) -> jax.Array:  # fmt: skip
    """Attention of a sequence to itself, as a layer of this pattern computes it.

    Args:
      q, k, v: [B N T H].
      valid: [B T] bool, keys that may be seen at all.
      keys: of the dropout of attention weights.
      prefix: [B T] bool, keys that every query sees, earlier ones too (prefix LM). No kernel of an
        accelerator knows it: XLA computes it with a [T T] mask.

    Returns:
      [B N T H].
    """
    if isinstance(pattern, tuple):  # each pattern by its own fastest way
        qs, ks, vs = (jnp.split(each, len(pattern), axis=1) for each in (q, k, v))
        parts = [
            attention(
                qs[n], ks[n], vs[n], config, one, valid, keys.fold(n) if keys else None, prefix
            )  # fmt: skip
            for n, one in enumerate(pattern)
        ]
        return jnp.concatenate(parts, axis=1)
    length = q.shape[2]
    how = "plain"
    if prefix is None:
        how = choose(config, pattern, length, valid is not None, keys is not None)
    if how == "splash":
        return splash(q, k, v, config.causal, pattern, config.band)
    if how == "cudnn":
        return cudnn(q, k, v, config.causal, pattern, config.band)
    if how == "sparse":
        return sparse_attention(q, k, v, config, pattern, valid, keys)
    if how == "blocks":
        return blocks(q, k, v, config, valid, keys)
    mask = sequence_mask(length, pattern, config, q.shape[1], valid, prefix)
    return attend(q, k, v, mask, keys, config.attention_dropout)


def choose(config: BlockConfig, pattern: str, length: int, masked: bool, dropped: bool) -> str:
    """The way to compute attention here: what the config says where that applies, or the fastest.

    The kernels of accelerators know neither padding nor dropout: with these, XLA computes it.

    Raises:
      ConfigError: the kernel that the config names cannot run here, or not with these sizes.
    """
    if length == 1:  # the token that parameters are made with
        return "plain"
    how: str = config.attention
    if how == "auto":
        how = {"tpu": "splash", "gpu": "cudnn"}.get(platform(), "blocks")
        if how == "splash" and length % 128:
            warnings.warn(f"length {length} is not a multiple of 128: no splash", stacklevel=2)
        if needs(how, config, pattern, length):
            how = "blocks"
    beyond = masked or (dropped and config.attention_dropout > 0)
    if how in ("splash", "cudnn") and beyond:
        how = "blocks"
    if how in ("splash", "cudnn") and pattern not in ("dense", "banded"):
        how = "blocks"  # those kernels know bands alone
    lacking = needs(how, config, pattern, length)
    if lacking:
        raise ConfigError(f"model.attention={how} needs {lacking}; --set model.attention=auto")
    if how == "blocks" and not config.causal:
        return "plain"
    return "sparse" if how == "blocks" and pattern != "dense" else how


def needs(how: str, config: BlockConfig, pattern: str, length: int) -> str | None:
    """What a kernel asks for and does not find in this platform and these sizes, or None."""
    size = config.head_width
    if how == "splash" and platform() != "tpu":
        return f"a TPU, and the platform is {platform()}"
    if how == "splash" and length % 128:
        return f"a length that 128 divides, and {length} is not"
    if how != "cudnn":
        return None
    if platform() != "gpu":
        return f"a GPU, and the platform is {platform()}"
    if config.dtype != "bfloat16":
        return f"model.dtype=bfloat16, and it is {config.dtype}"
    if size % 8 or size > 256 or (size > 128 and not hopper()):
        return f"a head size of 8, 16, ... 128, or from Hopper on 256, and it is {size}"
    if pattern == "banded" and not config.causal:
        return "bands to be causal, and causal=False"
    return None


def hopper() -> bool:
    """Whether this process's GPUs are of Hopper's generation or a later one."""
    here = jax.local_devices()[0]
    return here.platform == "gpu" and int(here.compute_capability.split(".")[0]) >= 9


def blocks(
    q: jax.Array, k: jax.Array, v: jax.Array, config: BlockConfig,
    valid: jax.Array | None, keys: DropoutKeys | None,
) -> jax.Array:  # fmt: skip
    """Dense causal attention by blocks of queries, each against only the keys that it can see."""
    dropped = keys is not None and config.attention_dropout > 0
    if by_rows(q.dtype) and ways(axes.BATCH) == 1 and valid is None and not dropped:
        return causal_attention(q, k, v)
    contexts = []
    for first in range(0, q.shape[2], QUERY_BLOCK):
        last = min(first + QUERY_BLOCK, q.shape[2])
        mask = (jnp.arange(first, last)[:, None] >= jnp.arange(last))[None, None]
        if valid is not None:
            mask = mask & valid[:, None, None, :last]
        contexts.append(
            attend(
                q[:, :, first:last], k[:, :, :last], v[:, :, :last], mask,
                keys.fold(first) if keys else None, config.attention_dropout,
            )
        )  # fmt: skip
    return jnp.concatenate(contexts, axis=2)


def cudnn(
    q: jax.Array, k: jax.Array, v: jax.Array, causal: bool, pattern: str, band: int
) -> jax.Array:
    """cuDNN's flash attention; its window, of causal attention alone, counts the keys before."""
    q, k, v = (jnp.swapaxes(each, 1, 2) for each in (q, k, v))
    window = (band - 1, 0) if pattern == "banded" else None
    context = jax.nn.dot_product_attention(
        q, k, v, is_causal=causal, local_window_size=window, implementation="cudnn"
    )
    return jnp.swapaxes(context, 1, 2)


def splash(
    q: jax.Array, k: jax.Array, v: jax.Array, causal: bool, pattern: str, band: int,
    *, interpret: bool = False,
) -> jax.Array:  # fmt: skip
    """Pallas splash attention of TPUs. It does not scale by 1 / sqrt(H): the queries are scaled,
    and in bfloat16 rounded once more than elsewhere, unless sqrt(H) is a power of two."""

    def local(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        kernel = splash_kernel(q.shape[1], q.shape[2], causal, pattern, band, interpret)
        return jax.vmap(kernel)(q * q.shape[-1] ** -0.5, k, v)

    return on_each_device(local, axes.BATCH, axes.HEADS, None, None)(q, k, v)


def splash_kernel(heads: int, length: int, causal: bool, pattern: str, band: int, interpret: bool):  # type: ignore[no-untyped-def]  # the kernel's class is private to Pallas
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel,
        splash_attention_mask,
    )

    shape = (length, length)
    mask: Any
    if pattern == "banded":
        window = (band - 1, 0 if causal else band - 1)
        mask = splash_attention_mask.LocalMask(shape, window, offset=0)
    elif causal:
        mask = splash_attention_mask.CausalMask(shape)
    else:
        mask = splash_attention_mask.FullMask(shape)
    block = splash_block(length, pattern)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=block, block_kv=block, block_kv_compute=block,
        block_q_dkv=block, block_kv_dkv=block, block_kv_dkv_compute=block,
        block_q_dq=block, block_kv_dq=block,
    )  # fmt: skip
    # made anew in each program: what it holds of the mask belongs to the one that is traced
    return splash_attention_kernel.make_splash_mha(
        splash_attention_mask.MultiHeadMask([mask] * heads),
        head_shards=1,
        q_seq_shards=1,
        block_sizes=sizes,
        interpret=interpret,
    )


def splash_block(length: int, pattern: str) -> int:
    """Queries and keys of a block: small ones pay only where a band leaves most of them out."""
    return math.gcd(length, 256 if pattern == "banded" else 512)


def live_blocks(length: int, config: BlockConfig, pattern: LayerPattern) -> float:
    """Share of all pairs that lie in blocks which splash computes."""
    if isinstance(pattern, tuple):
        return sum(live_blocks(length, config, one) for one in pattern) / len(pattern)
    block = splash_block(length, pattern)
    if not config.causal:
        return 1.0
    side = length // block
    reach = side if pattern != "banded" else -(-(config.band - 1) // block) + 1
    return sum(min(query + 1, reach) for query in range(side)) / side**2
