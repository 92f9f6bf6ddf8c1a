"""One update: gradients of all real tokens of the global batch, clipping, optimizer, guard."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from lm.core.mesh import DATA, batch_sharding, replicated
from lm.core.tree import name_of, square_norm
from lm.losses.language import mean
from lm.nn.dropout import DropoutKeys
from lm.train.guard import GuardConfig, judge
from lm.train.state import TrainState, shardings

# From parameters, a batch and dropout keys to the sum of the losses and the number of tokens.
Loss = Callable[[Any, Any, DropoutKeys], tuple[jax.Array, jax.Array]]


@flax.struct.dataclass
class StepMetrics:
    """Scalars of one step, on the device until they are read."""

    loss: jax.Array  # nats a token
    tokens: jax.Array  # real tokens of the step
    grad_norm: jax.Array  # before clipping
    applied: jax.Array  # bool: the update was made
    finite: jax.Array  # bool: loss and gradient were
    spike: jax.Array  # robust z-score
    lr: Any = None  # the learning rate it was made with
    layer_norms: Any = (
        None  # name -> gradient norm, [L] where layers are stacked; None unless asked for
    )


def gradients(
    loss: Loss, params: Any, batch: Any, key: jax.Array
) -> tuple[Any, jax.Array, jax.Array]:
    """Gradient and value of the summed loss of M microbatches [M B ...], and their tokens."""

    def microbatch(part: Any) -> tuple[Any, jax.Array, jax.Array]:
        keys = DropoutKeys.of(key, part.rows)
        (total, count), grads = jax.value_and_grad(loss, has_aux=True)(params, part, keys)
        return grads, total, count

    if jax.tree.leaves(batch)[0].shape[0] == 1:
        return microbatch(jax.tree.map(lambda leaf: leaf[0], batch))

    def accumulate(sums: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, microbatch(part)), None

    zeros = (jax.tree.map(jnp.zeros_like, params), jnp.zeros(()), jnp.zeros(()))
    return jax.lax.scan(accumulate, zeros, batch)[0]


def reduced_once(gradients_of: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """On a pure data mesh each part sums its own gradients; they meet in one reduction a step.

    Beside another axis the partitioner reduces: XLA's aborts on a lookup that is partly manual.
    """
    if mesh.shape[DATA] == 1 or mesh.shape[DATA] != mesh.size:
        return gradients_of

    def local(params: Any, batch: Any, key: jax.Array) -> Any:
        return jax.lax.psum(gradients_of(params, batch, key), DATA)

    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(P(), P(None, DATA), P()),
        out_specs=P(),
        axis_names={DATA},
        check_vma=False,
    )


def train_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    abstract: TrainState,
    mesh: Mesh,
    *,
    seed: int,
    clip: float | None,
    guard: GuardConfig,
    layer_norms: bool = False,
) -> Callable[[TrainState, Any, jax.Array], tuple[TrainState, StepMetrics]]:
    """The compiled step: (state, batch [M B ...], learning rate) -> (state, metrics).

    The state is donated. Losses divide by the number of real tokens of the whole global step, so
    that microbatches and meshes do not change what is computed.
    """
    gradients_of = reduced_once(lambda p, b, k: gradients(loss, p, b, k), mesh)

    def step(state: TrainState, batch: Any, rate: jax.Array) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        grads, total, count = gradients_of(state.params, batch, key)
        grads = jax.tree.map(
            lambda g, leaf: jax.lax.with_sharding_constraint(mean(g, count), leaf.sharding),
            grads,
            abstract.params,
        )
        value, norm = mean(total, count), jnp.sqrt(square_norm(grads))
        applied, finite, spike, guarded = judge(guard, state.guard, value, norm)

        scale = 1.0 if clip is None else jnp.minimum(1.0, clip / jnp.maximum(norm, 1e-12))
        clipped = jax.tree.map(lambda g: g * scale, grads)
        direction, moments = optimizer.update(clipped, state.moments, state.params)
        params = jax.tree.map(lambda p, d: p - rate * d, state.params, direction)

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda n, o: jnp.where(applied, n, o), new, old)

        state = TrainState(
            step=state.step + 1,
            params=keep(params, state.params),
            moments=keep(moments, state.moments),
            guard=guarded,
        )
        norms = norms_by_layer(grads) if layer_norms else None
        return state, StepMetrics(value, count, norm, applied, finite, spike, rate, norms)

    placed = shardings(abstract)
    return jax.jit(
        step,
        in_shardings=(placed, batch_sharding(mesh, leading=1), replicated(mesh)),
        out_shardings=(placed, replicated(mesh)),
        donate_argnums=0,
    )


def norms_by_layer(tree: Any) -> dict[str, jax.Array]:
    """The norm of each array; of each layer where the array is a stack's."""

    def norm(name: str, leaf: jax.Array) -> jax.Array:
        kept = 1 if "/blocks/" in name else 0
        return jnp.sqrt(jnp.sum(jnp.square(leaf), axis=tuple(range(kept, leaf.ndim))))

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {name_of(path): norm(name_of(path), leaf) for path, leaf in leaves}
