"""Documents written to files that lm/data/sources.py reads."""

import gzip
import json
from pathlib import Path

SHARD = 1 << 28  # characters of a file
LARGE = 1 << 24  # characters of a document that gets a file of its own


class Shards:
    """Files of documents: `.jsonl.gz`, and a `.txt.gz` for each that is very long."""

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.documents = self.characters = self.files = self.room = 0
        self.file: gzip.GzipFile | None = None

    def __enter__(self) -> "Shards":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self.file:
            self.file.close()
            self.file = None

    def opened(self, suffix: str) -> gzip.GzipFile:
        self.files += 1
        path = self.folder / f"text-{self.files - 1:05}{suffix}"
        return gzip.GzipFile(path, "wb", compresslevel=6, mtime=0)

    def write(self, text: str) -> None:
        self.documents += 1
        self.characters += len(text)
        if len(text) > LARGE:
            with self.opened(".txt.gz") as file:
                file.write(text.encode())
            return
        if self.file is None or self.room < len(text):
            self.close()
            self.file, self.room = self.opened(".jsonl.gz"), SHARD
        self.room -= len(text)
        self.file.write(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")
