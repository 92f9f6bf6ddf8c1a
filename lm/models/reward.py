"""A decoder whose last layer is one number a token: a reward model, and a value function.

The reward of an answer is the number at its last token; a value function reads it at every token.
One parameter tree serves both, so that a value function begins as the reward model is.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.core import axes
from lm.models.adapters import ADAPTERS, BASE, merged
from lm.models.gpt import GptConfig, Inserted
from lm.nn.dropout import DropoutKeys
from lm.nn.mlp import Dense


class RewardModel(nn.Module):
    """`Gpt` under "model", and a scalar head."""

    config: GptConfig

    def setup(self) -> None:
        self.model = self.config.module()
        # Stiennon et al. (2020, appendix C.1) and lm-human-preferences: std 1 / sqrt(width + 1)
        drawn = nn.initializers.normal((self.config.width + 1) ** -0.5)
        self.head = Dense((self.config.width, 1), (axes.WIDTH, axes.CLASSES), drawn)

    def __call__(
        self,
        tokens: jax.Array,  # [B T] int
        keys: DropoutKeys | None = None,
        inserted: Inserted | None = None,
        prefix: jax.Array | None = None,  # [B T] bool
    ) -> jax.Array:
        """Float32 numbers [B T]. Padding stands at the right, where no token looks."""
        hidden, _ = self.model.hidden(tokens, keys=keys, inserted=inserted, prefix=prefix)
        return self.head(hidden).astype(jnp.float32)[..., 0]


def init(config: GptConfig, key: jax.Array) -> Any:
    """Initial parameters, boxed with the names of their axes."""
    return RewardModel(config).init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def token_values(
    config: GptConfig, params: Any, tokens: jax.Array, keys: DropoutKeys | None = None,
    inserted: Inserted | None = None, prefix: jax.Array | None = None,
) -> jax.Array:  # fmt: skip
    """The number at each token. [B T] float32"""
    model = RewardModel(config)
    found: Any = model.apply({"params": merged(params)}, tokens, keys, inserted, prefix)
    return found


def answer_scores(
    config: GptConfig,
    params: Any,
    tokens: jax.Array,
    read: jax.Array,
    keys: DropoutKeys | None = None,
    inserted: Inserted | None = None,  # as `token_values` takes them of rows [B C]
    prefix: jax.Array | None = None,
) -> jax.Array:
    """The reward of each answer. [B C] float32 from tokens [B C T] and last places [B C].

    The C answers of a prompt are C forward passes, not one for each of C (C - 1) / 2 pairs.
    """
    rows, answers, length = tokens.shape
    spread = None if keys is None else keys.spread(answers)
    flat = tokens.reshape(-1, length)
    values = token_values(config, params, flat, spread, inserted, prefix)
    return jnp.take_along_axis(values, read.reshape(-1, 1), axis=1).reshape(rows, answers)


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
