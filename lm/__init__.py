"""lm: the line from BERT to GPT-4, in JAX and Flax.

import lm
run = lm.load("runs/demo")
run.logits(run.tokenizer.encode("def "))
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lm.studies.loaded import Loaded


def load(run: str | Path, step: int | None = None) -> "Loaded":
    """The config, parameters and tokenizer of a language model's run, and its model as a function.

    A BERT or a reward model has no next token: `lm.train.saved.read_run` reads those.
    """
    from lm.core.paths import run_path
    from lm.studies.loaded import load_run  # jax is imported when it is needed, not before

    return load_run(run_path(run), step)
