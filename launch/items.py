"""Which items of which task a command is asked for, and what its errors call the flags for it."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lm.core.paths import at_home

if TYPE_CHECKING:
    from lm.data.tasks import Task, TaskConfig
    from lm.data.tasks.config import OnBad
    from lm.data.tasks.task import Part

TOLD = {  # what an error tells a run to bind, as it is told to here
    "data.name": "--task",
    "set data.train=FILE": "set --root=FOLDER",
    "data.valid": "--file",
    "data.test": "--file",
    "data.columns": "--columns",
    "data.on_bad": "--on_bad",
    "data.on_error=replace (--errors=replace)": "--errors=replace",
}


def asked(
    data: "TaskConfig", *, task: str | None = None, root: str | None = None,
    file: str | None = None, columns: Sequence[str] = (), on_bad: str | None = None,
) -> "TaskConfig":  # fmt: skip
    """A run's task with what the flags of these names say of it. A file is its test part, beside
    the training rows where these say which labels there are."""
    from lm.data.tasks.config import resolved

    data = replace(data, limit=None, valid_limit=None)
    if task is not None:
        data = replace(data, name=task)
    if root is not None:
        data = replace(data, root=root)
    if on_bad is not None:
        data = replace(data, on_bad=cast("OnBad", on_bad))
    data = replace(data, columns=(*data.columns, *columns))  # the last of a field counts
    if file is None:
        return data
    files = [str(at_home(name.strip()).absolute()) for name in file.split(",")]
    # of the present folder, not of the task's own
    data = replace(data, test=",".join(files))
    return data if resolved(data).learned_labels else replace(data, train=None, valid=None)


def found(
    data: "TaskConfig", part: "Part", *, columns: Sequence[str] = (), **flags: str | None
) -> "Task":
    """The task that is `asked`. Raises ConfigError, DataError for what is not there, a column that
    --columns names too: those of the run itself may name labels, which a file need not have."""
    from lm.data.tasks import read

    task = read(asked(data, columns=columns, **flags))
    if columns:
        task.check_columns(part, columns)
    return task


def stems(paths: Sequence[Path]) -> str:
    """What a file is called without its ending; of several, the names together. At most 150 of the
    255 bytes that a file system takes."""
    from lm.data.tasks.rows import stem

    names = "+".join(stem(path) or path.name for path in paths)
    return os.fsencode(names)[:150].decode(errors="ignore")


def own_path(path: Path, file: str) -> Path:
    """Where the figures of a file go: this path, with digits of the file's own in it where those of
    another file stand there."""
    from lm.evals.suites import read_json

    told = read_json(path)
    if not isinstance(told, dict) or told.get("file") == file:
        return path
    digits = hashlib.sha256(os.fsencode(file)).hexdigest()[:6]
    return path.with_stem(f"{path.stem}-{digits}")
