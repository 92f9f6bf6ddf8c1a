"""Steps whose loss or gradient leaves its bounds: found on the device, in the step itself.

An update that is not finite is never applied, whatever the policy: parameters stay as they were.
An update of PPO is several, of which each is judged by itself.
A spike is a robust z-score (distance to the median in units of the median absolute deviation) over
the last steps; its window is part of the state, so that a resumed run decides as the first did.
"""

import dataclasses
from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp

from lm.core.config import require, require_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """What to do about a loss or gradient that is not finite, and about spikes."""

    nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    limit: int = 10  # skips in a row, or roll backs in all, before the run stops
    spike: Literal["off", "log", "skip"] = "log"
    threshold: float = 8.0  # robust z-score that is a spike
    window: int = 128  # steps it is measured over

    def __post_init__(self) -> None:
        require_positive(self, "limit", "threshold")
        require(self.window >= 8, f"window must be at least 8, got {self.window}")


@flax.struct.dataclass
class GuardState:
    """The last losses and gradient norms, NaN where there is none yet."""

    losses: jax.Array  # [window]
    norms: jax.Array  # [window]

    @classmethod
    def empty(cls, config: GuardConfig) -> "GuardState":
        nothing = jnp.full((config.window,), jnp.nan, jnp.float32)
        return cls(losses=nothing, norms=nothing)


def robust_z(window: jax.Array, value: jax.Array) -> jax.Array:
    """Distance of `value` above the window's median, over 1.4826 MAD; 0 while it is half empty."""
    median = jnp.nanmedian(window)
    deviation = 1.4826 * jnp.nanmedian(jnp.abs(window - median))
    floor = 1e-3 * jnp.abs(median) + 1e-8  # a constant loss makes every change infinite
    known = jnp.sum(~jnp.isnan(window)) >= window.shape[0] // 2
    return jnp.where(known, (value - median) / jnp.maximum(deviation, floor), 0.0)


def judge(
    config: GuardConfig, state: GuardState, loss: jax.Array, norm: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, GuardState]:
    """Whether to apply the update, whether all is finite, the larger z-score, the next state."""
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    if config.spike == "off":
        return finite, finite, jnp.zeros(()), state
    z = jnp.maximum(robust_z(state.losses, loss), robust_z(state.norms, norm))
    z = jnp.where(finite, z, 0.0)
    applied = finite & (z < config.threshold) if config.spike == "skip" else finite

    def push(window: jax.Array, value: jax.Array) -> jax.Array:
        return jnp.where(finite, jnp.append(window[1:], value), window)

    return applied, finite, z, GuardState(push(state.losses, loss), push(state.norms, norm))
