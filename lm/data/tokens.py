"""Tokenised text as one flat file of ids with a manifest, memory-mapped.

    <folder>/tokens.bin      uint16 or uint32 ids, each document followed by the end token
    <folder>/documents.npy   where each document begins
    <folder>/manifest.json   lengths, digests, the tokenizer's digest
"""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lm.core.config import require
from lm.core.errors import DataError
from lm.data.sources import Document, OnError, fingerprint, split
from lm.text.tokenizer import Tokenizer

FORMAT = 1
BLOCK = 1 << 20  # tokens a digest covers
TOGETHER = 64  # documents a call of the tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Text to learn from and text to measure on."""

    train: str = "stdlib:"  # files, folder, glob, `stdlib:`, or a folder of launch.tokenize
    valid: str | None = None  # a part of `train` is held out where None
    valid_fraction: float = 0.1
    on_error: OnError = "stop"  # text that is not UTF-8
    cache: str | None = None  # of tokenised text; $LM_CACHE or ~/.cache/lm where None

    def __post_init__(self) -> None:
        require(bool(self.train), "data.train is empty: name a file, a folder, a glob or stdlib:")
        fraction = self.valid_fraction
        require(0 < fraction < 1, f"valid_fraction must be between 0 and 1, got {fraction}")

    def documents(self, part: Literal["train", "valid"]) -> Iterator[Document]:
        return split(self.train, self.valid, self.valid_fraction, part, self.on_error)


@dataclasses.dataclass(frozen=True)
class TokenFile:
    """An opened token file."""

    folder: Path
    manifest: dict[str, Any]
    tokens: np.ndarray  # memory-mapped ids

    @classmethod
    def open(cls, folder: Path, *, vocab_size: int, tokenizer_digest: str) -> "TokenFile":
        """Opens and checks what can be checked at once; `verify` reads every byte.

        Raises:
          DataError: missing, cut short, empty, of another tokenizer, or with ids it does not have.
        """
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            length, dtype = int(manifest["length"]), np.dtype(manifest["dtype"])
            size = (folder / "tokens.bin").stat().st_size
        except OSError as error:
            raise DataError(f"{folder}: {error.strerror}; make it with launch.tokenize") from None
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{folder}/manifest.json cannot be read; tokenize again") from None
        if size != length * dtype.itemsize:
            raise DataError(
                f"{folder}/tokens.bin has {size} bytes, its manifest says {length * dtype.itemsize}; "
                "tokenize again"
            )
        if length == 0:
            raise DataError(f"{folder}: no tokens; the text is empty")
        if manifest["tokenizer"] != tokenizer_digest:
            raise DataError(
                f"{folder} was made with another tokenizer: vocabulary {manifest['vocab_size']}, "
                f"digest {manifest['tokenizer'][:12]}; this one: {vocab_size}, {tokenizer_digest[:12]}"
            )
        if manifest["max_id"] >= vocab_size:
            raise DataError(f"{folder}: id {manifest['max_id']} is not below the vocabulary {vocab_size}")
        return cls(folder, manifest, np.memmap(folder / "tokens.bin", dtype, "r", shape=(length,)))

    @property
    def bytes(self) -> int:
        """Bytes of UTF-8 text behind the tokens."""
        return int(self.manifest["bytes"])

    @property
    def digest(self) -> str:
        """Identity of the content."""
        return str(self.manifest["digest"])

    @cached_property
    def documents(self) -> np.ndarray:
        """Where each document begins."""
        return np.load(self.folder / "documents.npy", allow_pickle=False)

    def verify(self) -> None:
        """Raises DataError naming the first block whose digest is not the manifest's."""
        for number, expected in enumerate(self.manifest["blocks"]):
            block = self.tokens[number * BLOCK : (number + 1) * BLOCK]
            if zlib.crc32(block.tobytes()) != expected:
                raise DataError(
                    f"{self.folder}/tokens.bin: block {number} (tokens from {number * BLOCK}) is "
                    "damaged; tokenize again"
                )


def write_tokens(
    texts: Iterable[Document], tokenizer: Tokenizer, folder: Path, source: str = ""
) -> None:
    """Tokenises documents into `folder`, which appears whole or not at all.

    Raises:
      DataError: there is no text.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
    try:
        dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
        size = length = largest = 0
        starts: list[int] = []
        whole = hashlib.sha256()
        with (work / "tokens.bin").open("wb") as file:
            for batch in batched(texts, TOGETHER):
                size += sum(len(document.text.encode()) for document in batch)
                for ids in tokenizer.encode_batch([document.text for document in batch]):
                    starts.append(length)
                    row = np.array([*ids, tokenizer.end], dtype)
                    largest = max(largest, int(row.max()))
                    length += len(row)
                    whole.update(row.tobytes())
                    file.write(row.tobytes())
        if not size:
            raise DataError(f"no text to tokenize in {source or folder}")
        tokens = np.memmap(work / "tokens.bin", dtype, "r")
        blocks = [zlib.crc32(tokens[i : i + BLOCK].tobytes()) for i in range(0, length, BLOCK)]
        np.save(work / "documents.npy", np.array(starts, np.int64))
        manifest = {
            "format": FORMAT,
            "length": length,
            "dtype": np.dtype(dtype).name,
            "bytes": size,
            "documents": len(starts),
            "max_id": largest,
            "vocab_size": tokenizer.vocab_size,
            "tokenizer": tokenizer.digest,
            "source": source,
            "digest": whole.hexdigest(),
            "blocks": blocks,
        }
        (work / "manifest.json").write_text(json.dumps(manifest) + "\n")
        try:
            os.rename(work, folder)
        except OSError:  # another process was first: its file is the same
            if not (folder / "manifest.json").exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def batched(documents: Iterable[Document], count: int) -> Iterator[list[Document]]:
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == count:
            yield batch
            batch = []
    if batch:
        yield batch


def prepare(config: TextConfig, tokenizer: Tokenizer) -> tuple[TokenFile, TokenFile]:
    """The token files to train and to measure on, tokenised now or by an earlier run."""
    opened = []
    for part in ("train", "valid"):
        spec = config.train if part == "train" or config.valid is None else config.valid
        ready = made_by_tokenize(spec, part)
        if ready is None:
            key = [fingerprint(config.train), config.valid and fingerprint(config.valid)]
            key += [config.valid_fraction, config.on_error, tokenizer.digest, FORMAT]
            name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
            ready = cache_folder(config) / "tokens" / name / part
            if not (ready / "manifest.json").exists():
                write_tokens(config.documents(part), tokenizer, ready, spec)
        opened.append(
            TokenFile.open(ready, vocab_size=tokenizer.vocab_size, tokenizer_digest=tokenizer.digest)
        )
    return opened[0], opened[1]


def made_by_tokenize(spec: str, part: str) -> Path | None:
    """The token file in a folder that launch.tokenize made, if `spec` is one."""
    folder = Path(spec).expanduser()
    for path in (folder / part, folder):
        if (path / "manifest.json").is_file():
            return path
    return None


def cache_folder(config: TextConfig) -> Path:
    chosen = config.cache or os.environ.get("LM_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "lm"
