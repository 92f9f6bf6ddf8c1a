"""A run as `launch.serve` and `launch.chat` have it: loaded, checked, with an engine of its own."""

from pathlib import Path
from typing import TYPE_CHECKING

from lm.core.errors import ConfigError
from lm.core.paths import at_home, is_remote, run_path

if TYPE_CHECKING:
    from lm.serve.model import Served


def served_run(
    folder: str, step: int | None, *, slots: int, queue: int = 64, length: int | None = None
) -> "Served":
    """A run under the name of its folder. Its engine has not been started.

    Raises:
      ConfigError: the extra is not installed, or the run writes nothing.
      CheckpointError: it has no tokenizer.
    """
    try:
        import starlette  # noqa: F401
    except ImportError:
        raise ConfigError("this needs starlette and uvicorn: pip install 'lm[serve]'") from None
    from lm.models.gpt import GptConfig
    from lm.models.gpt_vision import GptVisionConfig
    from lm.serve.engine import Engine
    from lm.serve.model import Served
    from lm.studies.loaded import load_run
    from lm.train.saved import require_tokenizer

    run = load_run(run_path(folder), step)
    tokenizer = require_tokenizer(run.tokenizer, folder)
    model = run.config.model
    if not isinstance(model, GptConfig | GptVisionConfig):
        raise ConfigError(f"{folder} holds a {type(model).__name__}, which writes nothing")
    engine = Engine(
        model, run.params, slots=slots, queue=queue, length=length, vocab=tokenizer.vocab_size
    )
    return Served(run_name(folder), engine, tokenizer, learned_turns=run.in_turns)


def run_name(folder: str) -> str:
    """What a run is called: the last part of its path."""
    path = run_path(folder)
    return path.name if is_remote(path) else Path(folder).resolve().name


def labels_folder(named: str | None, run: str, *, wanted: bool) -> Path | None:
    """Where labels are kept: the folder that is named, or the run's; None where there is none.

    Raises:
      ConfigError: no name is given, or labels are wanted, and the run is in a store, to which
        nothing is appended.
    """
    if named == "":
        raise ConfigError("--labels is empty; name a folder, or leave it out for WORKDIR/labels")
    if named is not None:
        return at_home(named)
    folder = run_path(run) / "labels"
    if not is_remote(folder):
        return folder
    if wanted:
        raise ConfigError(f"{folder} cannot be appended to: give --labels=FOLDER of this machine")
    return None
