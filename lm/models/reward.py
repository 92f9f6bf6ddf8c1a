"""A decoder whose last layer is one number a token: a reward model, and a value function.

The reward of an answer is the number at its last token; a value function reads it at every token.
One parameter tree serves both, so that a value function begins as the reward model is. A reward
model may have a second head, "metadata", which only its training reads: log-odds of a yes to each
of some questions of an answer.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.core import axes
from lm.models.adapters import ADAPTERS, BASE, attached, merged
from lm.models.gpt import GptConfig, Inserted
from lm.nn.dropout import DropoutKeys
from lm.nn.mlp import Dense


class RewardModel(nn.Module):
    """`Gpt` under "model", a scalar head, and beside it one of a number for each question."""

    config: GptConfig
    questions: int = 0

    def setup(self) -> None:
        self.model = self.config.module()
        # Stiennon et al. (2020, appendix C.1) and lm-human-preferences: std 1 / sqrt(width + 1)
        drawn = nn.initializers.normal((self.config.width + 1) ** -0.5)
        self.head = Dense((self.config.width, 1), (axes.WIDTH, axes.CLASSES), drawn)
        if self.questions:
            shape = (self.config.width, self.questions)
            self.metadata = Dense(shape, (axes.WIDTH, axes.CLASSES), drawn)

    def __call__(
        self,
        tokens: jax.Array,  # [B T] int
        keys: DropoutKeys | None = None,
        inserted: Inserted | None = None,
        prefix: jax.Array | None = None,  # [B T] bool
    ) -> jax.Array:
        """Float32 numbers [B T 1 + Q]: the reward, and the log-odds of a yes to each question.
        Padding stands at the right, where no token looks."""
        hidden, _ = self.model.hidden(tokens, keys=keys, inserted=inserted, prefix=prefix)
        hidden = hidden.astype(jnp.float32)  # a head's numbers have its input's dtype
        heads = [self.head(hidden)] + ([self.metadata(hidden)] if self.questions else [])
        return jnp.concatenate(heads, axis=-1)


def init(config: GptConfig, key: jax.Array, questions: int = 0) -> Any:
    """Initial parameters, boxed with the names of their axes."""
    return RewardModel(config, questions).init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def token_values(
    config: GptConfig, params: Any, tokens: jax.Array, keys: DropoutKeys | None = None,
    inserted: Inserted | None = None, prefix: jax.Array | None = None,
) -> jax.Array:  # fmt: skip
    """The number at each token. [B T] float32"""
    found: Any = RewardModel(config).apply(
        {"params": attached(params)}, tokens, keys, inserted, prefix
    )
    return found[..., 0]


def answer_scores(
    config: GptConfig, params: Any, tokens: jax.Array, read: jax.Array,
    keys: DropoutKeys | None = None, inserted: Inserted | None = None,
    prefix: jax.Array | None = None,
) -> jax.Array:  # fmt: skip
    """The reward of each answer, as `answer_numbers` reads it. [B C] float32"""
    return answer_numbers(config, params, tokens, read, keys, inserted, prefix)[..., 0]


def answer_numbers(
    config: GptConfig,
    params: Any,
    tokens: jax.Array,
    read: jax.Array,
    keys: DropoutKeys | None = None,
    inserted: Inserted | None = None,  # as `token_values` takes them of rows [B C]
    prefix: jax.Array | None = None,
    questions: int = 0,
) -> jax.Array:
    """Of each answer the reward, and the log-odds of a yes to each question. [B C 1 + Q] float32
    from tokens [B C T] and last places [B C].

    The C answers of a prompt are C forward passes, not one for each of C (C - 1) / 2 pairs.
    """
    rows, answers, length = tokens.shape
    spread = None if keys is None else keys.spread(answers)
    flat = tokens.reshape(-1, length)
    found: Any = RewardModel(config, questions).apply(
        {"params": attached(params)}, flat, spread, inserted, prefix
    )
    numbers = jnp.take_along_axis(found, read.reshape(-1, 1, 1), axis=1)
    return numbers.reshape(rows, answers, 1 + questions)


def critic(policy: Any, value: Any) -> Any:
    """The value function: `value` itself, or where that is a head alone the policy's trunk under
    it."""
    return value | {"model": merged(policy)} if set(value) == {"head"} else value


def shifted(params: Any, by: jax.Array) -> Any:
    """The reward model that says `by` less of everything."""
    return rescaled(params, 1.0, -by)


def rescaled(params: Any, gain: float | jax.Array, bias: jax.Array) -> Any:
    """The reward model that says `gain` times as much of everything, and `bias` more."""
    whole = merged(params)["head"]
    head = {"kernel": gain * whole["kernel"], "bias": gain * whole["bias"] + bias}
    if ADAPTERS not in params:
        return params | {"head": head}
    more = jax.tree.map(jnp.subtract, head, params[BASE]["head"])
    return params | {ADAPTERS: params[ADAPTERS] | {"head": more}}
