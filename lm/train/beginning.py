"""What begins with the parameters of another run: that their models agree, and the first state of
pre-training that goes on so, on other text and with new steps."""

import shlex
from dataclasses import fields
from typing import Any

import jax

from lm.core.config import require
from lm.core.errors import CheckpointError
from lm.core.paths import run_path
from lm.models.gpt import GptConfig
from lm.nn.config import HOW, BlockConfig
from lm.text.tokenizer import Tokenizer
from lm.train.saved import read_run, require_tokenizer
from lm.train.state import TrainState, create, shardings
from lm.train.supervised import Supervised

# of a block: how it is computed, first values and dropout may be others
FREE = {*HOW, "init", "std", "attention_dropout", "residual_dropout"}
MEANT = {"head_size": "head_width", "hidden": "hidden_width"}  # None is what the width makes it
SAME = (  # what a network of text computes
    *(MEANT.get(field.name, field.name) for field in fields(BlockConfig) if field.name not in FREE),
    "vocab", "length", "final_norm", "segments", "units",
)  # fmt: skip


def read_beginning(init: str, model: Any, kind: type, mesh: Any) -> tuple[Any, Tokenizer]:
    """Parameters and tokenizer of the newest checkpoint of `init`, a run of `kind`.

    Raises:
      ConfigError: its model is not `model`, which names the way to set it.
      CheckpointError: no run, one of another kind or of no GPT, or one without a tokenizer.
    """
    saved = read_run(run_path(init), mesh)
    found = saved.config.model
    if not isinstance(saved.config, kind) or not isinstance(found, GptConfig):
        raise CheckpointError(
            f"init={init} holds a {type(saved.config).__name__} of a {type(found).__name__}: name "
            f"a {kind.__name__} of a GptConfig"
        )
    tokenizer = require_tokenizer(saved.tokenizer, f"init={init}")
    require(isinstance(model, GptConfig), f"init={init} is of a GPT, model is none: leave it out")
    require_same(model, found, init, f"--gin_file={shlex.quote(init)}/config.gin has its model")
    return saved.params, tokenizer


def require_same(model: Any, found: Any, init: str, way_out: str, name: str = "model") -> None:
    """Raises ConfigError where `model`, by `name`, computes another thing than `found`, that of
    `init`."""
    ours, theirs = type(model).__name__, type(found).__name__
    require(ours == theirs, f"{name} is a {ours}, and a {theirs} in init={init}: {way_out}")
    for field in [field for field in SAME if hasattr(found, field)]:
        ours, theirs = getattr(model, field), getattr(found, field)
        require(
            ours == theirs, f"{name}.{field} is {ours!r}, and {theirs!r} in init={init}: {way_out}"
        )


def with_params(config: Supervised, abstract: TrainState, params: Any) -> TrainState:
    """The state of step 0 with these parameters: a fresh optimizer, and fresh randomness."""
    state: Any = create(config.initial(), abstract, config.seed)
    return state.replace(params=jax.device_put(params, shardings(abstract.params)))
