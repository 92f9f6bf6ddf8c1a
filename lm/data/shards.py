"""Documents written to files that lm/data/sources.py reads."""

import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SHARD = 1 << 28  # characters of a file
LARGE = 1 << 24  # characters of a document that gets a file of its own


class Shards:
    """Files of documents: `.jsonl.gz`, and a `.txt.gz` for each that is very long.

    `whole` is called each time that a file is full, before the next one is begun: what `state`
    says then is what `resume` goes on from, with the document that did not fit.
    """

    def __init__(self, folder: Path, whole: Callable[[], None] | None = None):
        folder.mkdir(exist_ok=True)
        self.folder, self.whole = folder, whole
        self.documents = self.characters = self.files = self.room = 0
        self.file: gzip.GzipFile | None = None

    def state(self) -> dict[str, int]:
        """Counts of what is in the files."""
        return {
            "documents": self.documents, "characters": self.characters, "files": self.files
        }  # fmt: skip

    def resume(self, state: dict[str, int]) -> None:
        """Goes on after those files; what a killed process wrote after them goes."""
        self.documents, self.characters = state["documents"], state["characters"]
        self.files = state["files"]
        for path in self.folder.glob("text-*.gz"):
            if int(path.name.partition(".")[0].removeprefix("text-")) >= self.files:
                path.unlink()

    def close(self) -> None:
        if self.file:
            self.file.close()
            self.file = None

    def opened(self, suffix: str) -> gzip.GzipFile:
        self.files += 1
        path = self.folder / f"text-{self.files - 1:05}{suffix}"
        return gzip.GzipFile(path, "wb", compresslevel=6, mtime=0)

    def write(self, text: str) -> None:
        try:
            self._write(text)
        except OSError:  # what a file that is left open still holds would fail once more, unasked
            with suppress(OSError):
                self.close()
            raise

    def _write(self, text: str) -> None:
        long = len(text) > LARGE
        if not long and self.file is not None and self.room < len(text):
            self.close()
            if self.whole:
                self.whole()
        self.documents += 1
        self.characters += len(text)
        if long:
            with self.opened(".txt.gz") as file:
                file.write(text.encode())
            return
        if self.file is None:
            self.file, self.room = self.opened(".jsonl.gz"), SHARD
        self.room -= len(text)
        self.file.write(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")
