"""Optimizers and learning rates: Adam as GPT-3, as BERT and as GPT-1 have it, DPO's RMSprop.

A config gives the learning rate of a step and the direction of descent, which the step scales by
minus that rate.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lm.core.config import require, require_at_least_zero, require_fraction, require_positive
from lm.core.tree import name_of


class Progress(NamedTuple):
    """Where in a run an update stands."""

    step: int  # updates before it
    steps: int  # of the run
    tokens: int  # of the run, once it is made
    total_tokens: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """Adam (Kingma and Ba 2015) with decoupled decay of matrices (Loshchilov and Hutter 2019)."""

    peak_lr: float
    warmup_tokens: int = 0
    warmup_fraction: float = 0.0  # of the run's tokens, where warmup_tokens is 0
    decay_tokens: int | None = None  # where the rate reaches its end; the whole run where None
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    final_ratio: float = 0.1  # of peak_lr, after the decay
    b1: float = 0.9
    b2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip: float | None = 1.0  # largest global norm of the gradient

    def __post_init__(self) -> None:
        require_positive(self, "peak_lr", "decay_tokens", "epsilon", "clip")
        require_at_least_zero(self, "warmup_tokens", "weight_decay")
        require(0 <= self.final_ratio <= 1, f"final_ratio must be in 0..1, got {self.final_ratio}")
        require_fraction(self, "warmup_fraction", "b1", "b2")
        require(
            not (self.warmup_tokens and self.warmup_fraction),
            f"warmup_tokens {self.warmup_tokens} and warmup_fraction {self.warmup_fraction} are "
            "two warm-ups: set one of them to 0",
        )
        require(
            not (self.decay_tokens and self.warmup_fraction),
            "warmup_fraction is of the whole run: set warmup_tokens beside decay_tokens",
        )
        require(
            self.decay_tokens is None or self.decay_tokens > self.warmup_tokens,
            f"decay_tokens {self.decay_tokens} must be above warmup_tokens {self.warmup_tokens}",
        )

    def rate(self, progress: Progress) -> float:
        """Learning rate of the step with which the run reaches `progress.tokens`.

        Linear from zero over the warm-up, then down to `final_ratio` at `decay_tokens` (GPT-3,
        appendix B), and constant after it.
        """
        tokens = progress.tokens
        warmup = self.warmup_tokens or int(self.warmup_fraction * progress.total_tokens)
        if tokens < warmup:
            return self.peak_lr * tokens / warmup
        if self.schedule == "constant":
            return self.peak_lr
        end = self.decay_tokens or progress.total_tokens
        done = min(1.0, (tokens - warmup) / max(1, end - warmup))
        left = 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1 - done
        return self.peak_lr * (self.final_ratio + (1 - self.final_ratio) * left)

    def direction(self) -> optax.GradientTransformation:
        """Gradients to the direction of descent; the step scales it by minus the learning rate."""
        adam = optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.epsilon)
        return optax.chain(adam, optax.add_decayed_weights(self.weight_decay, mask=decayed))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertAdamConfig:
    """BERT's optimizer (google-research/bert, optimization.py): Adam without bias correction.

    The decay is decoupled and leaves norms and biases alone. The rate rises linearly over the
    warm-up, and after it stands where a straight line from `peak_lr` at step 0 to zero at the last
    one has got to.
    """

    peak_lr: float
    warmup_steps: int | None = None  # BERT pre-trains with 10,000
    warmup_fraction: float = 0.1  # of all steps, where warmup_steps is None: fine-tuning
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-6
    weight_decay: float = 0.01
    clip: float | None = 1.0  # largest global norm of the gradient

    def __post_init__(self) -> None:
        require_positive(self, "peak_lr", "epsilon", "clip")
        require_at_least_zero(self, "warmup_steps", "weight_decay")
        require_fraction(self, "warmup_fraction", "b1", "b2")

    def rate(self, progress: Progress) -> float:
        """Learning rate of the update after `progress.step` others."""
        step, steps = progress.step, progress.steps
        warmup = self.warmup_steps
        if warmup is None:
            warmup = int(self.warmup_fraction * steps)
        if step < warmup:
            return self.peak_lr * step / warmup
        return self.peak_lr * max(0.0, 1 - step / steps)

    def direction(self) -> optax.GradientTransformation:
        """m / (sqrt(v) + epsilon), and the decay."""
        return optax.chain(
            moments(self.b1, self.b2, self.epsilon),
            optax.add_decayed_weights(self.weight_decay, mask=decayed),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpt1AdamConfig:
    """GPT-1's optimizer (openai/finetune-transformer-lm, opt.py).

    Epsilon is added outside the bias correction, and the decay, of matrices only, is multiplied by
    the corrected rate. Progress counts the updates before this one, so that the first has rate 0.
    """

    peak_lr: float
    warmup_steps: int | None = None  # GPT-1 pre-trains with 2,000
    warmup_fraction: float = 0.002  # of all steps, where warmup_steps is None: fine-tuning
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    clip: float | None = 1.0  # largest global norm of the gradient

    def __post_init__(self) -> None:
        require_positive(self, "peak_lr", "epsilon", "clip")
        require_at_least_zero(self, "warmup_steps", "weight_decay")
        require_fraction(self, "warmup_fraction", "b1", "b2")

    def rate(self, progress: Progress) -> float:
        """`warmup_cosine`, `warmup_linear` or `warmup_constant` of opt.py.

        The decay is not begun anew after the warm-up; the linear one bends the warm-up as well.
        """
        done = progress.step / progress.steps
        warmup = self.warmup_fraction
        if self.warmup_steps is not None:
            warmup = self.warmup_steps / progress.steps
        rising = done <= warmup and warmup > 0
        if self.schedule == "linear":
            shape = (done / warmup if rising else 1.0) * (1 - done)
        elif rising:
            shape = done / warmup
        else:
            shape = 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1.0
        return self.peak_lr * shape

    def direction(self) -> optax.GradientTransformation:
        """sqrt(1 - b2^t) / (1 - b1^t) x (m / (sqrt(v) + epsilon) + decay)."""
        return optax.chain(
            moments(self.b1, self.b2, self.epsilon),
            optax.add_decayed_weights(self.weight_decay, mask=decayed),
            bias_correction(self.b1, self.b2),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RmsPropConfig:
    """RMSprop (Hinton, 2012, lecture 6e) as PyTorch has it, with which DPO learns: no momentum, no
    correction of the mean square's start. The rate rises linearly, and then stays."""

    peak_lr: float
    warmup_steps: int | None = None  # none where None; DPO has 150
    decay: float = 0.99  # of the running mean square
    epsilon: float = 1e-8  # outside the root
    clip: float | None = 1.0  # largest global norm of the gradient

    def __post_init__(self) -> None:
        require_positive(self, "peak_lr", "epsilon", "clip")
        require_at_least_zero(self, "warmup_steps")
        require_fraction(self, "decay")

    def rate(self, progress: Progress) -> float:
        """Learning rate of the update after `progress.step` others; that of the first is not 0."""
        return self.peak_lr * min(1.0, (progress.step + 1) / ((self.warmup_steps or 0) + 1))

    def direction(self) -> optax.GradientTransformation:
        return optax.scale_by_rms(self.decay, self.epsilon, eps_in_sqrt=False)


OptimizerConfig = AdamWConfig | BertAdamConfig | Gpt1AdamConfig | RmsPropConfig


def rising(config: OptimizerConfig, steps: int, total_tokens: int) -> bool:
    """Whether the learning rate still rises over the last two updates of a run, as no schedule does
    behind its warm-up."""
    if steps == 1:
        return False
    before = Progress(steps - 2, steps, total_tokens * (steps - 1) // steps, total_tokens)
    return config.rate(Progress(steps - 1, steps, total_tokens, total_tokens)) > config.rate(before)


def moments(b1: float, b2: float, epsilon: float) -> optax.GradientTransformation:
    """m / (sqrt(v) + epsilon) of Adam's running means, which are not corrected for their start."""

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.nu, grads)
        direction = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), mu, nu)
        return direction, optax.ScaleByAdamState(state.count + 1, mu, nu)

    return optax.GradientTransformation(init, update)


def bias_correction(b1: float, b2: float) -> optax.GradientTransformation:
    """Scales a whole update, decay included, by sqrt(1 - b2^t) / (1 - b1^t)."""

    def update(updates: Any, count: jax.Array, params: Any = None) -> tuple[Any, jax.Array]:
        del params
        t = (count + 1).astype(jnp.float32)
        scale = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        return jax.tree.map(lambda u: u * scale, updates), count + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def decayed(params: Any) -> Any:
    """True for kernels, of convolutions too, and for tables, of a decoder's positions too; and for
    both factors of an adapter, so that all that is learned beside a frozen model is drawn to it.

    Biases and norms are not decayed, nor an image encoder's positions and class token, as DeiT and
    big_vision have it.
    """

    def matrix(path: Any, _: Any) -> bool:
        name = name_of(path[-1:])
        return name.startswith("kernel") or name in ("table", "down", "up")

    return jax.tree_util.tree_map_with_path(matrix, params)
