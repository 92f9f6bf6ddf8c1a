"""What an update of PPO goes on from, and what it tells."""

from typing import Any

import flax.struct
import jax

from lm.train.guard import GuardState


@flax.struct.dataclass
class PpoState:
    """Everything a checkpoint holds. The reference and the reward model belong to other runs."""

    step: jax.Array  # updates done or skipped
    policy: Any
    value: Any
    average: Any  # exponential moving average of the policy: what the run is for
    policy_moments: Any
    value_moments: Any
    beta: jax.Array  # coefficient of the KL penalty
    guard: GuardState

    @property
    def moments(self) -> Any:
        return self.policy_moments, self.value_moments

    @property
    def params(self) -> Any:
        """The model that somebody who reads the run gets."""
        return self.average


@flax.struct.dataclass
class UpdateMetrics:
    """Scalars of one update: means over the minibatches that it was made of, which are those whose
    losses and gradients were finite."""

    policy_loss: jax.Array
    value_loss: jax.Array
    text_loss: jax.Array  # nats a token; 0 without pre-training text
    grad_norm: jax.Array  # of the policy, before clipping
    finite: jax.Array  # bool: losses and gradients of every minibatch were
    applied: jax.Array  # share of the minibatches that were, and were learned from
    spike: jax.Array
    clipped: jax.Array  # share of tokens beyond the clip
    first_ratio: jax.Array  # largest |ratio - 1| in the first minibatch: nothing has changed yet
    step_kl: (
        jax.Array
    )  # nats a token, from the policy that drew to the policy of the last minibatch
