"""Optimizers, and learning rates as functions of the tokens seen."""

import dataclasses
import math
from typing import Any, Literal

import jax
import optax

from lm.core.config import require, require_positive
from lm.core.tree import name_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """Adam (Kingma and Ba 2015) with decoupled decay of matrices (Loshchilov and Hutter 2019)."""

    peak_lr: float
    warmup_tokens: int = 0
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
        require(self.warmup_tokens >= 0, f"warmup_tokens must be >= 0, got {self.warmup_tokens}")
        require(0 <= self.final_ratio <= 1, f"final_ratio must be in 0..1, got {self.final_ratio}")
        for name in ("b1", "b2"):
            require(
                0 <= getattr(self, name) < 1, f"{name} must be in [0, 1), got {getattr(self, name)}"
            )
        require(
            self.decay_tokens is None or self.decay_tokens > self.warmup_tokens,
            f"decay_tokens {self.decay_tokens} must be above warmup_tokens {self.warmup_tokens}",
        )

    def rate(self, tokens: int, total_tokens: int) -> float:
        """Learning rate of the step with which the run reaches `tokens`.

        Linear from zero over `warmup_tokens`, then down to `final_ratio` at `decay_tokens` (GPT-3,
        appendix B), and constant after it.
        """
        if tokens < self.warmup_tokens:
            return self.peak_lr * tokens / self.warmup_tokens
        if self.schedule == "constant":
            return self.peak_lr
        end = self.decay_tokens or total_tokens
        done = min(1.0, (tokens - self.warmup_tokens) / max(1, end - self.warmup_tokens))
        left = 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1 - done
        return self.peak_lr * (self.final_ratio + (1 - self.final_ratio) * left)

    def direction(self) -> optax.GradientTransformation:
        """Gradients to the direction of descent; the step scales it by minus the learning rate."""
        adam = optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.epsilon)
        return optax.chain(adam, optax.add_decayed_weights(self.weight_decay, mask=decayed))


def decayed(params: Any) -> Any:
    """True for kernels and tables; biases and norms are not decayed."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: name_of(path[-1:]) in ("kernel", "table"), params
    )
