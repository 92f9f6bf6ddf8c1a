"""A study is several runs in one directory: where it begins, and goes on."""

from pathlib import Path
from typing import Any

import jax

from lm.core.config import CLASS, differences, dump, load
from lm.core.errors import ConfigError
from lm.train.session import told

FREE = (".loop.", ".mesh.", ".title")  # bindings of how a study is run, not of what it is


def begin(workdir: Path, config: Any, *, begun: bool = False) -> None:
    """Writes the study's config into its directory.

    Args:
      begun: steps are done that others go on from, so that nothing that they are of may change.

    Raises:
      ConfigError: the directory holds something else, or steps of other settings, or cannot be
        written.
    """
    path = workdir / "config.gin"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        held = path.read_text() if path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot use --workdir {workdir}: {error}") from None
    if held is not None:
        changed = differences(load(held, str(path)), config)
        if CLASS in changed:
            old, new = changed[CLASS]
            raise ConfigError(f"{workdir} holds a {old}, not {new}; choose another --workdir")
        changed = {
            name: pair for name, pair in changed.items()
            if not any(part in f".{name}" for part in FREE)
        }  # fmt: skip
        if begun and changed:
            raise ConfigError(
                f"{workdir} has steps of other settings: {told(changed)}; choose another --workdir "
                "or set them as they were"
            )
    if jax.process_index() == 0:
        path.write_text(dump(config))
