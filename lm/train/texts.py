"""Where the texts lie that a run reads: it does not write among them."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lm.core.config import is_config
from lm.core.errors import ConfigError
from lm.core.paths import is_remote
from lm.data.dialogues import DialoguesConfig
from lm.data.prompts import RowsConfig
from lm.data.sources import folders
from lm.data.tokens import TextConfig

TOKENS = "manifest.json"  # what a folder of tokens has, of which no text is read


def refuse_among_texts(workdir: Path, config: Any) -> None:
    """Raises ConfigError where a run would write into a folder of the texts that it reads: its
    metrics and samples would be among them, for every later run as well."""
    for name, folder in text_folders(config) if not is_remote(workdir) else ():
        if workdir.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"--workdir {workdir} is in {folder}, of which {name} reads every text, those of "
                "the run too: choose another --workdir"
            )


def text_folders(config: Any, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """The folders of which a run reads every text, and the dotted name of what names them."""
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if isinstance(value, TextConfig | RowsConfig):
            several = value.mixture if isinstance(value, TextConfig | DialoguesConfig) else ()
            mixture = [(f"{name}.mixture", spec) for _, spec, _ in several]
            for source, spec in [
                (f"{name}.train", value.train), (f"{name}.valid", value.valid), *mixture,
            ]:  # fmt: skip
                for folder in folders(spec) if spec else ():
                    parts = (folder, folder / "train", folder / "valid")
                    if not any((part / TOKENS).is_file() for part in parts):
                        yield source, folder
        elif is_config(value):
            yield from text_folders(value, f"{name}.")
