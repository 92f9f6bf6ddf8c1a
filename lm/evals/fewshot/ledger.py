"""What came of each item, a line each, appended as it comes: an evaluation goes on where it was."""

import fcntl
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lm.core.errors import DataError
from lm.core.paths import writing

KEY = ("task", "shots", "seed", "of", "number")  # what a line is the outcome of


class Ledger:
    """A file of outcomes by (task, shots, seed, digest of the task's items, number of the item).

    It is of one process at a time, until it is closed: `with Ledger(path) as ledger`.
    """

    def __init__(self, path: Path):
        """
        Raises:
          ConfigError: it cannot be written.
          DataError: another process has it, or a line is none, unless it is the last and was cut
            short.
        """
        self.path = path
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("ab", buffering=0)  # closing has nothing left to write
        try:
            self._lock()
            self._read()
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"another process writes {self.path}: wait for it, or end it") from None
        except OSError:
            pass  # a file system without locks

    def _read(self) -> None:
        text = self.path.read_bytes()
        for number, line in enumerate(io.BytesIO(text), start=1):
            if not line.endswith(b"\n"):  # the process ended while it wrote
                self.file.truncate(len(text) - len(line))
                break
            try:
                row = json.loads(line)
                self.rows[tuple(row[name] for name in KEY)] = row
            except (ValueError, KeyError, TypeError):
                raise DataError(
                    f"{self.path}:{number} is damaged; remove the line, its item is asked again "
                    "(or the file, where an earlier version wrote other lines)"
                ) from None

    def row(self, *key: Any) -> dict[str, Any] | None:
        """The outcome of an item; None where it has not been asked."""
        return self.rows.get(key)

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Appends outcomes; on disk when this returns.

        Raises:
          ConfigError: they cannot be written.
        """
        new = {tuple(row[name] for name in KEY): row for row in rows}
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in new.values()).encode()
        with writing(self.path):
            while text:  # one call, unless the disk is full
                text = text[self.file.write(text) :]
            os.fsync(self.file.fileno())
        self.rows |= new
