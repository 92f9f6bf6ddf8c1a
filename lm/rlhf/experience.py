"""What a rollout is worth: log-probabilities, KL, values, rewards, advantages.

Everything here is of the policy that drew the answers, before any update, and is held fixed while
the policy changes.
"""

import dataclasses
from functools import partial
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp

from lm.core.config import require
from lm.losses.ppo import Estimator, gae, kl_estimate, masked_mean, token_rewards, whiten
from lm.models.gpt import GptConfig
from lm.models.reward import critic, token_values
from lm.rlhf.parts import in_parts
from lm.rlhf.rollout import Rollout, Sight, answer_logp, answer_values, seen


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdvantageConfig:
    """How rewards become advantages."""

    discount: float = 1.0  # none (appendix C.4)
    decay: float = 0.95  # lambda: not printed; the ancestor's (lm-human-preferences)
    # "answers": over real tokens, with Bessel's correction, once a rollout (TRL). "minibatch": in
    # the loss, over a minibatch, biased, rewards too without their mean (lm-human-preferences).
    whitening: Literal["answers", "minibatch", "none"] = "answers"
    estimator: Estimator = "k1"  # of the KL, in the penalty and wherever it is told
    missing_end: float = 0.0  # taken off the score of an answer that does not end

    def __post_init__(self) -> None:
        for name in ("discount", "decay"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} must be in 0..1, got {value}")


@flax.struct.dataclass
class Experience:
    """Answers as PPO learns from them."""

    tokens: jax.Array  # [B S] int32
    start: jax.Array  # [B] int32
    mask: jax.Array  # [B T] bool
    logp: jax.Array  # [B T] of the policy that drew them
    values: jax.Array  # [B T] of the value function then
    rewards: jax.Array  # [B T]
    advantages: jax.Array  # [B T]
    returns: jax.Array  # [B T]
    sight: Sight | None = None

    @classmethod
    def abstract(cls, rows: int, width: int, answer: int, sight: Any) -> "Experience":
        """Shapes and types alone, of so many rows: what an update is compiled for."""
        struct: Any = jax.ShapeDtypeStruct
        figure = struct((rows, answer), jnp.float32)
        return cls(
            struct((rows, width), jnp.int32), struct((rows,), jnp.int32),
            struct((rows, answer), jnp.bool_), figure, figure, figure, figure, figure, sight,
        )  # fmt: skip


@partial(
    jax.jit,
    static_argnames=("policy_config", "value_config", "config", "temperature", "parts", "vocab"),
)
def assess(
    policy_config: GptConfig,
    value_config: GptConfig,
    config: AdvantageConfig,
    policy: Any,
    reference: Any,
    value: Any,
    rollout: Rollout,
    scores: jax.Array,
    beta: jax.Array,
    *,
    temperature: float,
    parts: int,
    vocab: int | None = None,
) -> tuple[Experience, dict[str, jax.Array]]:
    """What PPO learns from a rollout whose answers have these scores [B].

    Args:
      beta: coefficient of the KL penalty.
      parts: the models read the rows in as many parts, one after the other.
      vocab: ids that are tokens, as the rollout was drawn.

    Returns:
      The experience, and figures: means over answers, of the KL in nats an answer.
    """
    count = rollout.mask.shape[1]

    def read(part: Rollout) -> tuple[jax.Array, jax.Array, jax.Array]:
        of = partial(
            answer_logp, policy_config, tokens=part.tokens, start=part.start, count=count,
            temperature=temperature, sight=part.sight, vocab=vocab,
        )  # fmt: skip
        inserted, prefix = seen(part.sight, part.start, part.tokens.shape[1])
        own = critic(policy, value)
        values = token_values(value_config, own, part.tokens, None, inserted, prefix)
        return of(policy), of(reference), answer_values(values, part.start, count)

    logp, reference_logp, values = in_parts(read, rollout, parts)
    mask = rollout.mask
    kl = jnp.where(mask, kl_estimate(logp, reference_logp, config.estimator), 0.0)
    penalised = scores - config.missing_end * ~rollout.ended
    rewards = token_rewards(penalised, kl, mask, beta)
    advantages, returns = gae(rewards, values, mask, discount=config.discount, decay=config.decay)
    if config.whitening == "answers":
        advantages = whiten(advantages, mask, bessel=True)
    experience = Experience(
        tokens=rollout.tokens, start=rollout.start, mask=mask, logp=logp, values=values,
        rewards=rewards, advantages=advantages, returns=returns, sight=rollout.sight,
    )  # fmt: skip
    drift = jnp.where(mask, jnp.abs(logp - rollout.logp), 0.0)
    lengths = jnp.sum(mask, axis=1)
    per_answer = jnp.sum(kl, axis=1)
    return experience, {
        "reward": jnp.mean(scores),
        "reward_std": jnp.std(scores),
        "kl": jnp.mean(per_answer),
        "kl_error": jnp.std(per_answer) / jnp.sqrt(len(per_answer)),  # of this mean
        "objective": jnp.mean(penalised - beta * per_answer),
        "beta": beta,
        "entropy": -masked_mean(logp, mask),  # an estimate, from the tokens drawn
        "length": jnp.mean(lengths.astype(jnp.float32)),
        "ended": jnp.mean(rollout.ended.astype(jnp.float32)),
        "empty": jnp.mean((rollout.ended & (lengths == 1)).astype(jnp.float32)),
        "drift": jnp.max(drift),
        "drift_mean": masked_mean(drift, mask),
    }


def minibatch_advantages(
    config: AdvantageConfig, part: Experience
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Advantages, returns and mask of the losses of a minibatch.

    lm-human-preferences whitens inside the loss, rewards and then advantages, and counts the
    padding behind an answer like the answer.
    """
    if config.whitening != "minibatch":
        return part.advantages, part.returns, part.mask
    everywhere = jnp.ones_like(part.mask)
    rewards = whiten(part.rewards, everywhere, bessel=False, shift=False)
    advantages, returns = gae(
        rewards, part.values, everywhere, discount=config.discount, decay=config.decay
    )
    return whiten(advantages, everywhere, bessel=False), returns, everywhere
