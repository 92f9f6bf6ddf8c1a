"""Layers as one scanned program, and what a backward pass keeps of them: here and nowhere else.

Parameters of a stack are one tree whose leaves lead with the layer. Stacked they are scanned, so
that compile time does not grow with depth. Given as a tuple of trees, one a layer, they are
unrolled: decoding does so, since a scan would copy every layer's cache at every token.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.core import axes
from lm.nn.attention import attention_weights
from lm.nn.blocks import Block
from lm.nn.cache import LayerCache
from lm.nn.config import BlockConfig
from lm.nn.dropout import DropoutKeys
from lm.nn.norms import LayerNorm

# What the backward pass need not compute again, by name of the policy.
POLICIES: dict[str, Callable[..., Any] | None] = {
    "full": None,  # nothing but each block's input
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "context": jax.checkpoint_policies.save_only_these_names("context"),
    "qkv": jax.checkpoint_policies.save_only_these_names("qkv", "context"),
    # what every product makes: norms and activations are computed again
    "products": jax.checkpoint_policies.save_only_these_names("qkv", "context", "stream", "hidden"),
}


class Stack(nn.Module):
    """`config.layers` blocks, whose patterns repeat `config.pattern`."""

    config: BlockConfig

    @nn.compact
    def __call__(
        self,
        x: jax.Array,  # [B T D]
        valid: jax.Array | None = None,  # [B S] bool
        keys: DropoutKeys | None = None,
        cache: tuple[LayerCache, ...] | None = None,
        start: int | jax.Array = 0,
        prefix: jax.Array | None = None,  # [B T] bool
    ) -> tuple[jax.Array, tuple[LayerCache, ...] | None]:
        config = self.config
        cycle = [Block(config, pattern, parent=None) for pattern in config.pattern]
        alone = len(cycle) == 1  # a backward pass then keeps the layers' own arrays, and no copies

        def initial(key: jax.Array) -> Any:
            one = jnp.zeros((1, 1, config.width), config.dtype)
            layers = jax.vmap(lambda k: cycle[0].init(k, one)["params"])(
                jax.random.split(key, config.layers)
            )
            return jax.tree.map(lead_with_layers, layers, is_leaf=is_boxed)

        if self.is_initializing():
            params = nn.unbox(self.param("blocks", initial))
        else:
            params = self.get_variable("params", "blocks")

        def apply(position: int, layers: Any, x: jax.Array, keys: DropoutKeys | None) -> jax.Array:
            # taken apart here: what enters a checkpoint is kept, and a layer's part would be a copy
            params = layers if alone else jax.tree.map(lambda leaf: leaf[position], layers)
            return cycle[position].apply({"params": params}, x, valid, keys, prefix=prefix)[0]

        if isinstance(params, tuple):
            caches: list[Any] = []
            for layer, tree in enumerate(params):
                block = cycle[layer % len(cycle)]
                layer_keys = keys.fold(layer) if keys else None
                layer_cache = cache[layer] if cache else None
                out: Any = block.apply(
                    {"params": tree}, x, valid, layer_keys, layer_cache, start, prefix
                )
                x = out[0]
                caches.append(out[1])
            return x, tuple(caches) if cache else None
        if cache is not None:
            raise ValueError("a cache needs parameters by layer: see unstack")

        if config.remat != "none":
            apply = jax.checkpoint(apply, policy=POLICIES[config.remat], static_argnums=0)

        def step(x: jax.Array, layer: Any) -> tuple[jax.Array, None]:
            number, params = layer
            for i in range(len(cycle)):
                layer_keys = keys.fold(number * len(cycle) + i) if keys else None
                x = apply(i, params, x, layer_keys)
            return x, None

        rounds = config.layers // len(cycle)
        if not alone:
            params = jax.tree.map(lambda a: a.reshape(rounds, len(cycle), *a.shape[1:]), params)
        x, _ = jax.lax.scan(step, x, (jnp.arange(rounds), params), unroll=config.unroll)
        return x, None


def layers_of(
    config: BlockConfig, blocks: Any, x: jax.Array,
    valid: jax.Array | None = None, prefix: jax.Array | None = None,
) -> Iterator[tuple[jax.Array, jax.Array]]:  # fmt: skip
    """What each block of stacked parameters makes of `x` [B T D], without dropout, and where its
    attention looks [B N T T]. For use under jit, which leaves out what is not taken."""
    for layer, params in enumerate(unstack(blocks)):
        pattern = config.pattern[layer % len(config.pattern)]
        enters: Any = x
        if config.norm == "pre":
            norm = LayerNorm(config.epsilon, parent=None)
            enters = norm.apply({"params": params["norm1"]}, x)
        weights = attention_weights(config, params["attention"], enters, pattern, valid, prefix)
        block = Block(config, pattern, parent=None)
        out: Any = block.apply({"params": params}, x, valid, prefix=prefix)
        x = out[0]
        yield x, weights


def unstack(blocks: Any) -> tuple[Any, ...]:
    """Stacked parameters as one tree a layer."""
    layers = jax.tree.leaves(blocks)[0].shape[0]
    return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], blocks) for i in range(layers))


def is_boxed(leaf: Any) -> bool:
    return isinstance(leaf, nn.Partitioned)


def lead_with_layers(leaf: Any) -> Any:
    return leaf.replace(names=(axes.LAYERS, *leaf.names)) if is_boxed(leaf) else leaf
