"""One update of policy and value function from one rollout: PPO's inner epochs and minibatches."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lm.core.config import require_at_least_zero, require_fraction, require_positive
from lm.core.mesh import batch_sharding
from lm.core.tree import square_norm
from lm.data.batches import TokenBatch
from lm.losses.language import masked_sum, mean, token_losses
from lm.losses.ppo import clipped_share, kl_estimate, masked_mean, policy_loss, value_loss
from lm.models.adapters import attached, trainable, whole_gradient, with_trainable
from lm.models.gpt import GptConfig, forward
from lm.models.reward import critic, token_values
from lm.rlhf.controller import KlConfig, next_beta
from lm.rlhf.experience import AdvantageConfig, Experience, minibatch_advantages
from lm.rlhf.parts import interleaved, joined
from lm.rlhf.rollout import answer_logp, answer_values, seen
from lm.rlhf.state import PpoState, UpdateMetrics
from lm.train.guard import GuardConfig, judge


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateConfig:
    """How a rollout is learned from (Ouyang et al. 2022, appendix C.4)."""

    minibatches: int = 8
    inner_epochs: int = 1
    clip: float = 0.2
    value_clip: float = 0.2
    # of the value loss beside the policy's: matters where both have one trunk, and to the clipping
    # of gradients (lm-human-preferences: 0.1)
    value_weight: float = 1.0
    average: float = 0.992  # decay of the moving average, an update
    # of the language model's gradient beside PPO's, both of means over tokens (how the paper's two
    # are normalised is not printed); PPO-ptx: 27.8, PPO: 0
    gamma: float = 0.0
    text_rows: int = 8  # rows of pre-training text an answer, where gamma is not 0

    def __post_init__(self) -> None:
        require_positive(self, "minibatches", "inner_epochs", "clip", "value_clip", "text_rows")
        require_at_least_zero(self, "value_weight", "gamma")
        require_fraction(self, "average")


@dataclasses.dataclass(frozen=True)
class Updater:
    """The function of an update, and what it is of."""

    policy_config: GptConfig
    value_config: GptConfig
    config: UpdateConfig
    advantages: AdvantageConfig
    kl: KlConfig
    guard: GuardConfig
    policy_optimizer: optax.GradientTransformation
    value_optimizer: optax.GradientTransformation
    policy_clip: float | None  # of the gradient's norm
    value_clip: float | None
    temperature: float
    mesh: Mesh
    microbatches: int = 1  # parts that a minibatch is computed in
    vocab: int | None = None  # ids that are tokens, as the rollout was drawn

    def __call__(
        self,
        state: PpoState,
        experience: Experience,
        text: TokenBatch | None,  # [B text_rows ...]
        kl: jax.Array,
        rates: tuple[jax.Array, jax.Array],
        key: jax.Array,
    ) -> tuple[PpoState, UpdateMetrics]:
        """The state after the inner epochs. A minibatch with something that is not finite is left
        out of it, and of the means that are told; where all are, parameters and average stay."""
        config = self.config
        rows = experience.mask.shape[0]
        parts = []
        for epoch in range(config.inner_epochs):
            order = jax.random.permutation(jax.random.fold_in(key, epoch), rows)
            parts.append(self.minibatches((experience, text), order if epoch else None))
        batches = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

        def learn(state: PpoState, batch: Any) -> tuple[PpoState, UpdateMetrics]:
            part, rows_of_text = batch
            return self.learn(state, part, rows_of_text, rates)

        old, (state, each) = state, jax.lax.scan(learn, state, batches)
        learned = jnp.any(each.finite)

        def told(values: jax.Array) -> jax.Array:
            return masked_mean(values, each.finite | ~learned)

        loss, norm = told(each.policy_loss), told(each.grad_norm)
        _, _, spike, guarded = judge(self.guard, old.guard, loss, norm)

        def follow(average: jax.Array, new: jax.Array) -> jax.Array:
            moved = config.average * average + (1 - config.average) * new
            return jnp.where(learned, moved, average)

        state = state.replace(  # type: ignore[attr-defined]
            step=old.step + 1,
            average=jax.tree.map(follow, old.average, state.policy),
            beta=jnp.where(learned, next_beta(self.kl, old.beta, kl, rows), old.beta),
            guard=guarded,
        )
        metrics = jax.tree.map(told, each)
        first, last = jnp.argmax(each.finite), -1 - jnp.argmax(each.finite[::-1])
        return state, metrics.replace(
            finite=jnp.all(each.finite), applied=jnp.mean(each.finite), spike=spike,
            first_ratio=each.first_ratio[first], step_kl=each.step_kl[last],
        )  # fmt: skip

    def minibatches(self, whole: Any, order: jax.Array | None) -> Any:
        """[B ...] as [M B/M ...], in another order in every inner epoch but the first."""
        if order is not None:
            whole = jax.tree.map(lambda leaf: leaf[order], whole)
        return self.divided(whole, self.config.minibatches)

    def divided(self, whole: Any, parts: int) -> Any:
        """[B ...] as [parts B/parts ...], rows on the devices that have them."""
        placed = batch_sharding(self.mesh, leading=1)
        return jax.tree.map(
            lambda leaf: jax.lax.with_sharding_constraint(interleaved(leaf, parts), placed), whole
        )

    def learn(
        self,
        state: PpoState,
        part: Experience,
        text: TokenBatch | None,
        rates: tuple[jax.Array, jax.Array],
    ) -> tuple[PpoState, UpdateMetrics]:
        """One step of both optimizers on a minibatch."""
        advantages, returns, mask = minibatch_advantages(self.advantages, part)
        count = mask.shape[1]

        sums, logp = self.summed(state, (part, advantages, returns, mask), count)
        loss, of_values, (grads, value_grads) = sums
        text_loss = jnp.zeros(())
        if text is not None:
            text_loss, text_grads = self.text_gradient(state.policy, text)
            grads = jax.tree.map(lambda g, t: g + self.config.gamma * t, grads, text_grads)
        grads = whole_gradient(state.policy, grads)
        value_grads = whole_gradient(state.value, value_grads)
        norm, value_norm = (jnp.sqrt(square_norm(g)) for g in (grads, value_grads))
        finite = jnp.isfinite(loss + text_loss + of_values + norm + value_norm)

        policy, policy_moments = descended(
            self.policy_optimizer, state.policy, state.policy_moments,
            clipped(grads, norm, self.policy_clip), rates[0],
        )  # fmt: skip
        value, value_moments = descended(
            self.value_optimizer, state.value, state.value_moments,
            clipped(value_grads, value_norm, self.value_clip), rates[1],
        )  # fmt: skip
        learned = state.replace(  # type: ignore[attr-defined]
            policy=policy, value=value,
            policy_moments=policy_moments, value_moments=value_moments,
        )  # fmt: skip
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), learned, state)
        ratio = jnp.exp(jnp.where(part.mask, logp - part.logp, 0.0))
        return state, UpdateMetrics(
            policy_loss=loss, value_loss=of_values, text_loss=text_loss, grad_norm=norm,
            finite=finite, applied=finite, spike=jnp.zeros(()),
            clipped=clipped_share(logp, part.logp, part.mask, clip=self.config.clip),
            first_ratio=jnp.max(jnp.abs(ratio - 1)),
            step_kl=masked_mean(
                kl_estimate(part.logp, logp, self.advantages.estimator), part.mask
            ),
        )  # fmt: skip

    def summed(self, state: PpoState, whole: Any, count: int) -> tuple[Any, jax.Array]:
        """Means of both losses over a minibatch's answers, and their gradients by what is
        trainable, a microbatch at a time; and the new log-probabilities [B count].

        Args:
          whole: experience, advantages, returns and mask of the minibatch.
        """
        total = jnp.maximum(jnp.sum(whole[-1]), 1)

        networks = (state.policy, state.value)

        def losses(*learned: Any) -> tuple[jax.Array, Any]:
            *both, (part, advantages, returns, mask) = learned
            policy, value = map(with_trainable, networks, both)
            logp = answer_logp(
                self.policy_config, policy, part.tokens, part.start, count, self.temperature,
                part.sight, self.vocab,
            )  # fmt: skip
            inserted, prefix = seen(part.sight, part.start, part.tokens.shape[1])
            own = critic(policy, value)
            values = token_values(self.value_config, own, part.tokens, None, inserted, prefix)
            values = answer_values(values, part.start, count)
            share = jnp.sum(mask) / total
            of_policy = share * policy_loss(
                logp, part.logp, advantages, mask, clip=self.config.clip
            )
            of_values = share * value_loss(
                values, part.values, returns, mask, clip=self.config.value_clip
            )
            return of_policy + self.config.value_weight * of_values, (of_policy, of_values, logp)

        def one(some: Any) -> tuple[Any, jax.Array]:
            (_, (of_policy, of_values, logp)), grads = jax.value_and_grad(
                losses, argnums=(0, 1), has_aux=True
            )(*map(trainable, networks), some)
            return (of_policy, of_values, grads), logp

        if self.microbatches == 1:
            return one(whole)

        def add(sums: Any, some: Any) -> tuple[Any, jax.Array]:
            found, logp = one(some)
            return jax.tree.map(jnp.add, sums, found), logp

        zeros = jax.tree.map(jnp.zeros_like, tuple(map(trainable, networks)))
        nothing = jnp.zeros(())
        sums, logp = jax.lax.scan(
            add, (nothing, nothing, zeros), self.divided(whole, self.microbatches)
        )
        return sums, joined(logp)

    def text_gradient(self, policy: Any, text: TokenBatch) -> tuple[jax.Array, Any]:
        """Mean loss on pre-training text [b text_rows T] and its gradient as `summed` has it, a row
        of each answer at a time: the steps whose gradients the paper accumulates."""

        def loss(some: Any, rows: TokenBatch) -> jax.Array:
            params = attached(with_trainable(policy, some))
            logits, _ = forward(self.policy_config, params, jnp.asarray(rows.tokens))
            total = masked_sum(token_losses(logits, rows.targets), rows.mask)
            return mean(total, jnp.sum(jnp.asarray(rows.mask), dtype=jnp.float32))

        def add(sums: Any, rows: TokenBatch) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, jax.value_and_grad(loss)(own, rows)), None

        own = trainable(policy)
        zeros = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, own))
        by_row = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), text)
        sums, _ = jax.lax.scan(add, zeros, by_row)
        total, grads = jax.tree.map(lambda leaf: leaf / self.config.text_rows, sums)
        return total, grads


def clipped(grads: Any, norm: jax.Array, most: float | None) -> Any:
    scale = 1.0 if most is None else jnp.minimum(1.0, most / jnp.maximum(norm, 1e-12))
    return jax.tree.map(lambda g: g * scale, grads)


def descended(
    optimizer: optax.GradientTransformation, params: Any, moments: Any, grads: Any, rate: jax.Array
) -> tuple[Any, Any]:
    direction, moments = optimizer.update(grads, moments, params)
    moved = jax.tree.map(lambda p, d: p - rate * d, trainable(params), trainable(direction))
    return with_trainable(params, moved), moments
