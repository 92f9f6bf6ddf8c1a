"""One update: gradients of all real tokens of the global batch, clipping, optimizer, guard."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from lm.core.mesh import DATA, batch_sharding, replicated
from lm.core.tree import name_of, square_norm
from lm.losses.language import mean
from lm.models.adapters import trainable, whole_gradient, with_trainable
from lm.nn.dropout import DropoutKeys
from lm.train.guard import GuardConfig, judge
from lm.train.state import TrainState, shardings


class Objective(Protocol):
    """What a step descends: a weighted sum of means, each over a count of its own.

    Counts come from the batch alone and are taken over the whole global step before anything is
    summed, so that microbatches and meshes do not change what is computed.
    """

    @property
    def weights(self) -> Mapping[str, float]:
        """Each part's weight; the first part's count is what the step reports as tokens."""

    def counts(self, batch: Any) -> dict[str, jax.Array]:
        """How many of what each part averages over are in a batch [... B ...]."""

    def sums(self, params: Any, batch: Any, keys: DropoutKeys | None) -> dict[str, jax.Array]:
        """The sum of each part's losses over a batch [B ...]."""


@flax.struct.dataclass
class StepMetrics:
    """Scalars of one step, on the device until they are read."""

    loss: jax.Array  # the weighted sum of the parts; nats a token where there is one
    tokens: jax.Array  # real tokens of the step, or what else the first part counts
    grad_norm: jax.Array  # before clipping
    applied: jax.Array  # bool: the update was made; of PPO the share of it that was
    finite: jax.Array  # bool: loss and gradient were
    spike: jax.Array  # robust z-score
    lr: Any = None  # the learning rate it was made with
    parts: Any = None  # name -> mean loss, where there are several; NaN: a mean over nothing
    figures: Any = None  # name -> what else was measured in the step
    norms: Any = None  # name -> gradient norm, [L] of a stack's layers; None unless asked for


def gradients(
    objective: Objective, params: Any, batch: Any, key: jax.Array, counts: dict[str, jax.Array]
) -> tuple[Any, dict[str, jax.Array]]:
    """Gradient of the objective, by what of `params` is trainable, over M microbatches [M B ...],
    and the mean loss of each part.

    On a part of the global batch, these are its shares, which add up.
    """

    learned = trainable(params)

    def loss(learned: Any, part: Any, keys: DropoutKeys) -> tuple[jax.Array, dict[str, jax.Array]]:
        sums = objective.sums(with_trainable(params, learned), part, keys)
        means = {name: mean(sums[name], counts[name]) for name in objective.weights}
        weighted = [weight * means[name] for name, weight in objective.weights.items()]
        return sum(weighted, start=jnp.zeros(())), means

    def microbatch(part: Any) -> tuple[Any, dict[str, jax.Array]]:
        keys = DropoutKeys(key, part.rows)
        grads, means = jax.grad(loss, has_aux=True)(learned, part, keys)
        return grads, means

    if jax.tree.leaves(batch)[0].shape[0] == 1:
        return microbatch(jax.tree.map(lambda leaf: leaf[0], batch))

    def accumulate(sums: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, microbatch(part)), None

    nothing = {name: jnp.zeros(()) for name in objective.weights}
    zeros = (jax.tree.map(jnp.zeros_like, learned), nothing)
    return jax.lax.scan(accumulate, zeros, batch)[0]


def reduced_once(gradients_of: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """On a pure data mesh each part sums its own gradients; they meet in one reduction a step.

    Beside another axis the partitioner reduces: XLA's aborts on a lookup that is partly manual.
    """
    if mesh.shape[DATA] == 1 or mesh.shape[DATA] != mesh.size:
        return gradients_of

    def local(params: Any, batch: Any, key: jax.Array, counts: Any) -> Any:
        return jax.lax.psum(gradients_of(params, batch, key, counts), DATA)

    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(P(), P(None, DATA), P(), P()),
        out_specs=P(),
        check_vma=False,
    )


def train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    abstract: TrainState,
    mesh: Mesh,
    *,
    seed: int,
    clip: float | None,
    guard: GuardConfig,
    norms: bool = False,
) -> Callable[[TrainState, Any, jax.Array], tuple[TrainState, StepMetrics]]:
    """The compiled step: (state, batch [M B ...], learning rate) -> (state, metrics).

    The state is donated.
    """
    gradients_of = reduced_once(lambda *operands: gradients(objective, *operands), mesh)

    def step(state: TrainState, batch: Any, rate: jax.Array) -> tuple[TrainState, StepMetrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        counts = objective.counts(batch)
        grads, means = gradients_of(state.params, batch, key, counts)
        grads = jax.tree.map(
            lambda g, leaf: jax.lax.with_sharding_constraint(g, leaf.sharding),
            whole_gradient(state.params, grads),
            abstract.params,
        )
        weighted = [weight * means[name] for name, weight in objective.weights.items()]
        value, norm = sum(weighted, start=jnp.zeros(())), jnp.sqrt(square_norm(grads))
        applied, finite, spike, guarded = judge(guard, state.guard, value, norm)

        scale = 1.0 if clip is None else jnp.minimum(1.0, clip / jnp.maximum(norm, 1e-12))
        clipped = jax.tree.map(lambda g: g * scale, grads)
        direction, moments = optimizer.update(clipped, state.moments, state.params)
        own = trainable(state.params)
        moved = jax.tree.map(lambda p, d: p - rate * d, own, trainable(direction))

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda n, o: jnp.where(applied, n, o), new, old)

        state = TrainState(
            step=state.step + 1,
            params=with_trainable(state.params, keep(moved, own)),
            moments=keep(moments, state.moments),
            guard=guarded,
        )
        told = {name: jnp.where(counts[name] > 0, means[name], jnp.nan) for name in means}
        metrics = StepMetrics(
            loss=value,
            tokens=counts[next(iter(objective.weights))],
            grad_norm=norm,
            applied=applied,
            finite=finite,
            spike=spike,
            lr=rate,
            parts=told if len(means) > 1 else None,
            norms=norms_by_layer(grads) if norms else None,
        )
        return state, metrics

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
