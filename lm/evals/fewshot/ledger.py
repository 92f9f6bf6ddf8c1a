"""What came of each item, a line each, appended as it comes: an evaluation goes on where it was."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lm.core.errors import DataError

KEY = ("task", "shots", "seed", "of", "number")  # what a line is the outcome of


class Ledger:
    """A file of outcomes by (task, shots, seed, digest of the task's items, number of the item)."""

    def __init__(self, path: Path):
        """
        Raises:
          DataError: a line that is none, unless it is the last and was cut short.
        """
        self.path = path
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with path.open("r+b") as file:
            for number, line in enumerate(iter(file.readline, b""), start=1):
                if not line.endswith(b"\n"):  # the process ended while it wrote
                    file.truncate(file.tell() - len(line))
                    break
                try:
                    row = json.loads(line)
                    self.rows[tuple(row[name] for name in KEY)] = row
                except (ValueError, KeyError, TypeError):
                    raise DataError(
                        f"{path}:{number} is damaged; remove the line, its item is asked again"
                    ) from None

    def row(self, *key: Any) -> dict[str, Any] | None:
        """The outcome of an item; None where it has not been asked."""
        return self.rows.get(key)

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Appends outcomes; on disk when this returns."""
        with self.path.open("ab") as file:
            for row in rows:
                self.rows[tuple(row[name] for name in KEY)] = row
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
