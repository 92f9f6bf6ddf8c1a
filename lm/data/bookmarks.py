"""Where a long pass over text stands, kept so that a process that is killed goes on from there."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.errors import DataError

Mark = tuple[dict[str, Any], dict[str, np.ndarray]]
VALUES = "values"  # the array that holds the rest as JSON


class Bookmarks:
    """Named states in a folder. Each is on disk whole, or as it was before."""

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        self.folder = folder

    def save(self, name: str, values: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        path = self.folder / f"{name}.npz"
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez(file, **{VALUES: np.array(json.dumps(values))}, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)

    def load(self, name: str) -> Mark | None:
        """None where there is none."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            return None
        with np.load(path) as found:
            arrays = {key: found[key] for key in found.files if key != VALUES}
            return json.loads(str(found[VALUES])), arrays


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder that is being made, until this one ends.

    Raises:
      DataError: one is in it.
    """
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f"another process works in {folder}: wait for it, or end it") from None
        yield
