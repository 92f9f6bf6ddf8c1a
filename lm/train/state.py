"""All that a training run is, on the device: made sharded, never whole in one place."""

import os
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from lm.core.mesh import parameter_shardings
from lm.train.guard import GuardConfig, GuardState


@flax.struct.dataclass
class TrainState:
    """Everything a checkpoint holds. Random keys and data order follow from the step and a seed."""

    step: jax.Array  # updates done or skipped
    params: Any  # float32
    moments: Any  # the optimizer's, sharded as the parameters
    guard: GuardState


Initialiser = Callable[[jax.Array], TrainState]


def initialiser(
    init: Callable[[jax.Array], Any], optimizer: optax.GradientTransformation, guard: GuardConfig
) -> Initialiser:
    """The function from a key to a state whose arrays are boxed with the names of their axes."""

    def initial(key: jax.Array) -> TrainState:
        params = init(key)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            moments=optimizer.init(params),
            guard=GuardState.empty(guard),
        )

    return initial


def abstract_state(initial: Callable[[jax.Array], Any], mesh: Mesh) -> Any:
    """Shapes, dtypes and shardings of what a key makes; nothing is computed or placed."""
    boxed = jax.eval_shape(initial, jax.eval_shape(lambda: jax.random.key(0)))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        nn.unbox(boxed),
        parameter_shardings(boxed, mesh),
    )


def shardings(state: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.sharding, state)


def create(initial: Initialiser, abstract: TrainState, seed: int) -> TrainState:
    """The first state, every array made where it lives.

    Random numbers are long straight code, which LLVM would polish for longer than the first steps
    take, and to no gain: the values and the speed are the same at its first level. That is not
    asked for where the environment wants no optimization at all.
    """
    less = jax.default_backend() == "cpu" and not os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS")
    make = jax.jit(
        lambda key: nn.unbox(initial(key)), out_shardings=shardings(abstract),
        compiler_options={"xla_backend_optimization_level": 1} if less else None,
    )  # fmt: skip
    return make(jax.random.key(seed))
