"""lm-evaluation-harness on a run of ours, with its own command line and its own tasks.

    python -m lm.evals.harness run --model lm --model_args workdir=RUN --tasks lambada_openai
    python -m lm.evals.harness run --model lm --model_args workdir=RUN,step=500 \
        --tasks mine --include_path folder_with_yaml

Model arguments: workdir, step (the newest checkpoint by default), batch_tokens (read at a time),
seed. This is a command and stands above the folder that it is in.
"""

import sys
from typing import Any

from lm.core.errors import ConfigError, UserError


def register() -> None:
    """Makes our models known to lm-eval under the name `lm`.

    Raises:
      ConfigError: lm-eval is not installed.
    """
    try:
        from lm_eval.api.registry import register_model
    except ImportError:
        raise ConfigError(
            "lm-evaluation-harness is not installed: pip install 'lm[eval]'"
        ) from None
    from lm import load
    from lm.evals.harness_model import HarnessModel
    from lm.evals.scorer import Scorer

    @register_model("lm")
    class Run(HarnessModel):
        """A run directory. lm-eval gives the last three always; batches are the scorer's own."""

        def __init__(
            self,
            workdir: str = "",
            step: int | None = None,
            batch_tokens: int = 8192,
            seed: int = 0,
            batch_size: Any = None,
            max_batch_size: Any = None,
            device: Any = None,
        ):
            if not workdir:
                raise ConfigError("--model_args has no workdir; give --model_args workdir=RUN")
            run: Any = load(workdir, step)
            if not hasattr(run, "scorer"):
                raise ConfigError(f"{workdir} holds no language model: it scores no texts")
            own = run.scorer()
            super().__init__(
                Scorer(own.config, own.params, own.tokenizer, own.mesh, batch_tokens=batch_tokens),
                seed,
            )


def main() -> None:
    try:
        register()
        from lm_eval.__main__ import cli_evaluate

        cli_evaluate()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
