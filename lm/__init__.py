"""lm: the line from BERT to GPT-4, in JAX and Flax.

import lm
run = lm.load("runs/demo")
run.logits(run.tokenizer.encode("def "))
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lm.studies.loaded import Loaded
    from lm.studies.readers import Encoder, Judge, Tuned


def load(run: str | Path, step: int | None = None) -> "Loaded | Encoder | Judge | Tuned":
    """The config, parameters and tokenizer of a run, and its model as a function.

    A language model is a `Loaded`, a pre-trained BERT an `Encoder`, a reward model a `Judge`, what
    was fine-tuned on texts a `Tuned`; what else a run may hold, `lm.train.saved.read_run` reads.
    """
    from lm.core.paths import run_path
    from lm.studies.readers import load_any  # jax is imported when it is needed, not before

    return load_any(run_path(run), step)
