"""How strongly a policy is held to its reference: the coefficient of the KL penalty."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lm.core.config import require, require_at_least_zero, require_positive
from lm.core.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class KlConfig:
    """A fixed coefficient (Ouyang et al. 2022: 0.02), or one steered to a target.

    The steering is that of Ziegler et al. (2019, section 2.2): each update multiplies beta by
    1 + error x episodes / horizon, error = KL / target - 1, kept within +-0.2.
    """

    beta: float = 0.02
    target: float | None = None  # nats an answer; None: beta stays (lm-human-preferences: 6)
    horizon: int = 10_000  # episodes
    stop: float | None = None  # nats an answer at which a run ends itself

    def __post_init__(self) -> None:
        require_at_least_zero(self, "beta")
        require_positive(self, "target", "horizon", "stop")
        require(
            self.target is None or self.beta > 0,
            f"kl.target {self.target} steers kl.beta by factors, and kl.beta is 0",
        )


def check_beta(config: KlConfig, changed: Mapping[str, tuple[Any, Any]]) -> None:
    """Raises ConfigError where beta is among the bindings that changed, and is steered: that of the
    state is gone on with."""
    if config.target is not None and "kl.beta" in changed:
        old, new = changed["kl.beta"]
        raise ConfigError(
            f"kl.beta: checkpoint {old!r}, now {new!r}, and kl.target {config.target} steers the "
            f"checkpoint's; set it as it was, or kl.target=None to hold it at {new!r}"
        )


def own_beta(config: KlConfig, beta: jax.Array) -> jax.Array:
    """The coefficient of an update: where it is steered that of the state, and else the config's,
    which may have been set anew since the state was saved."""
    return jnp.full_like(beta, config.beta) if config.target is None else beta


def next_beta(config: KlConfig, beta: jax.Array, kl: jax.Array, episodes: int) -> jax.Array:
    """The coefficient after an update of `episodes` answers with a mean KL of `kl` nats each."""
    if config.target is None:
        return own_beta(config, beta)
    error = jnp.clip(kl / config.target - 1, -0.2, 0.2)
    return beta * (1 + error * episodes / config.horizon)
