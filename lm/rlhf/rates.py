"""Learning rates of PPO: of its updates, where an optimizer's own schedule is of a run's tokens."""

import dataclasses
from dataclasses import replace
from typing import Any

from lm.core.config import require
from lm.train.optimizer import BertAdamConfig, OptimizerConfig

# What an optimizer says of a rate that is constant.
CONSTANT: dict[str, Any] = {
    "schedule": "constant", "warmup_fraction": 0.0, "warmup_tokens": 0, "warmup_steps": None,
    "decay_tokens": None, "final_ratio": 0.1,
}  # fmt: skip


def constant(name: str, optim: OptimizerConfig) -> OptimizerConfig:
    """An optimizer of PPO, which says of its schedule what is true: there is none. That of its
    class by default passes for none.

    Raises:
      ConfigError: it has a schedule.
    """
    way_out = "rates of PPO are constant but for its own `warmup` and `linear_decay`: set these"
    require(
        not isinstance(optim, BertAdamConfig),
        f"{name}: BertAdamConfig has a schedule, and {way_out}, of an AdamWConfig",
    )
    said = [field for field in dataclasses.fields(optim) if field.name in CONSTANT]
    for field in said:
        value = getattr(optim, field.name)
        require(
            value in (field.default, CONSTANT[field.name]),
            f"{name}.{field.name} {value!r} would do nothing: {way_out}",
        )
    return replace(optim, **{field.name: CONSTANT[field.name] for field in said})
