"""Low-rank adapters (Hu et al. 2022, "LoRA"): a frozen model and a small sum beside each kernel.

Adapted parameters are {"base": the model's, "lora": ...}, where a kernel of a block becomes
W + down @ up. `merged` makes that sum, for whoever reads many tokens by it; `attached` leaves the
two apart, as `Dense` takes them, so that learning makes neither the sum nor its gradient, which are
as large as the model. Both leave other parameters as they are: what reads parameters need not know.
Heads, which are new, are learned whole.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

BASE, ADAPTERS = "base", "lora"
HEADS = ("head", "metadata")


def adapted(params: Any, rank: int, key: jax.Array) -> Any:
    """`params`, frozen, with adapters of a rank that change nothing yet; as they are at rank 0."""
    if not rank:
        return params
    adapters = adapters_of(params, rank, key, ())
    for head in HEADS:
        if head in params:
            adapters[head] = jax.tree.map(jnp.zeros_like, params[head])
    return {BASE: params, ADAPTERS: adapters}


def adapters_of(params: Any, rank: int, key: jax.Array, path: tuple[str, ...]) -> Any:
    found: dict[str, Any] = {}
    for number, (name, leaf) in enumerate(params.items()):
        here = (*path, name)
        if isinstance(leaf, Mapping):
            below = adapters_of(leaf, rank, jax.random.fold_in(key, number), here)
            found |= {name: below} if below else {}
        elif name == "kernel" and "blocks" in path:
            kernel = leaf.value if isinstance(leaf, nn.Partitioned) else leaf
            layers, inputs, outputs = divided(here, kernel.shape)
            drawn = jax.random.normal(jax.random.fold_in(key, number), (layers, inputs, rank))
            found[name] = {
                "down": drawn * inputs**-0.5, "up": jnp.zeros((layers, rank, outputs)),
            }  # fmt: skip
    return found


def divided(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Layers, inputs and outputs of a block's kernel: two axes go into attention's output."""
    contracted = 2 if path[-3:-1] == ("attention", "output") else 1
    layers, *rest = shape
    inputs = outputs = 1
    for axis, size in enumerate(rest):
        if axis < contracted:
            inputs *= size
        else:
            outputs *= size
    return layers, inputs, outputs


def attached(params: Any) -> Any:
    """The parameters of the model, beside each adapted kernel its `down` and `up`; gradients reach
    the adapters alone."""
    if ADAPTERS not in params:
        return params
    return beside(jax.lax.stop_gradient(params[BASE]), params[ADAPTERS])


def beside(base: Any, adapters: Any) -> Any:
    made = dict(base)
    for name, more in adapters.items():
        if isinstance(base[name], Mapping):
            made[name] = beside(base[name], more)
        elif isinstance(more, Mapping):
            made |= more
        else:
            made[name] = base[name] + more
    return made


def trainable(params: Any) -> Any:
    """What of parameters is learned: their adapters, or all of them."""
    return params[ADAPTERS] if ADAPTERS in params else params


def with_trainable(params: Any, some: Any) -> Any:
    """`params` with another `trainable`."""
    return {BASE: params[BASE], ADAPTERS: some} if ADAPTERS in params else some


def whole_gradient(params: Any, gradient: Any) -> Any:
    """A gradient of `trainable` as one of `params`: zeros of what is frozen."""
    if ADAPTERS not in params:
        return gradient
    return {BASE: jax.tree.map(jnp.zeros_like, params[BASE]), ADAPTERS: gradient}


def merged(params: Any) -> Any:
    """The parameters of the model; gradients reach the adapters alone."""
    if ADAPTERS not in params:
        return params
    return added(jax.lax.stop_gradient(params[BASE]), params[ADAPTERS])


def added(base: Any, adapters: Any) -> Any:
    if not isinstance(base, Mapping):
        if isinstance(adapters, Mapping):
            product = jnp.einsum("LIR,LRO->LIO", adapters["down"], adapters["up"])
            return base + product.reshape(base.shape)
        return base + adapters
    return {
        name: added(leaf, adapters[name]) if name in adapters else leaf
        for name, leaf in base.items()
    }


def learned_alone(
    direction: optax.GradientTransformation, rank: int
) -> optax.GradientTransformation:
    """An optimizer that keeps moments of the adapters only, and leaves the base as it is."""
    if not rank:
        return direction

    def labels(params: Any) -> Any:
        return {name: jax.tree.map(lambda _, name=name: name, params[name]) for name in params}

    return optax.multi_transform({ADAPTERS: direction, BASE: optax.set_to_zero()}, labels)


def with_base(params: Any, base: Any) -> Any:
    """`params` with another model's parameters below its adapters, or in its place."""
    return {BASE: base, ADAPTERS: params[ADAPTERS]} if ADAPTERS in params else base
