"""Tokenised text as one flat file of ids with a manifest, memory-mapped.

    <folder>/tokens.bin      uint16 or uint32 ids, each document followed by the end token
    <folder>/documents.npy   where each document begins
    <folder>/manifest.json   lengths, digests, the tokenizer's digest

`launch.tokenize` makes a folder of three: `tokenizer`, `train` and `valid`.
"""

import dataclasses
import hashlib
import json
import threading
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.checksum import is_altered
from lm.core.errors import DataError

FORMAT = 1
BLOCK = 1 << 20  # tokens a digest covers
SAMPLED = 1024  # ids looked at when a file is opened


@dataclasses.dataclass(frozen=True)
class TokenFile:
    """An opened token file."""

    folder: Path
    manifest: dict[str, Any]
    tokens: np.ndarray  # memory-mapped ids

    @classmethod
    def open(
        cls, folder: Path, *, vocab_size: int | None, tokenizer_digest: str | None
    ) -> "TokenFile":
        """Opens and checks what can be checked at once; `verify` reads every byte.

        None for the vocabulary or the digest leaves that comparison out.

        Raises:
          DataError: missing, cut short, empty, of another tokenizer, or with ids it does not have.
        """
        file = folder / "tokens.bin"
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            version, length = manifest["format"], int(manifest["length"])
            dtype, largest = np.dtype(manifest["dtype"]), int(manifest["max_id"])
            known, theirs = int(manifest["vocab_size"]), str(manifest["tokenizer"])
            int(manifest["bytes"]), int(manifest["documents"]), manifest["digest"]
            list(map(int, manifest["blocks"]))
            if is_altered(manifest):
                raise ValueError
            size = file.stat().st_size
        except OSError as error:
            raise DataError(f"{folder}: {error.strerror}; make it with launch.tokenize") from None
        except (ValueError, KeyError, TypeError, OverflowError, SyntaxError):
            raise DataError(f"{folder}/manifest.json cannot be read; tokenize again") from None
        if version != FORMAT or dtype not in (np.uint16, np.uint32):
            raise DataError(f"{folder} has format {version} {dtype}, not {FORMAT}; tokenize again")
        if length == 0:
            raise DataError(f"{folder}: no tokens; the text is empty")
        if size != length * dtype.itemsize:
            raise DataError(
                f"{file} has {size} bytes, its manifest says {length * dtype.itemsize}; "
                "remove the folder and tokenize again"
            )
        if tokenizer_digest is not None and theirs != tokenizer_digest:
            kept = folder.parent / "tokenizer"
            hint = f"; set tokenizer.path={kept}" if kept.is_dir() else "; tokenize again"
            raise DataError(
                f"{folder} was made with another tokenizer: vocabulary {known}, digest "
                f"{theirs[:12]}; this one: {vocab_size}, {tokenizer_digest[:12]}{hint}"
            )
        limit = known if vocab_size is None else vocab_size
        if largest >= limit:
            raise DataError(
                f"{folder}: id {largest} is not below the vocabulary {limit}; tokenize again, or "
                "use the tokenizer it was made with"
            )
        tokens = np.memmap(file, dtype, "r", shape=(length,))
        spots = np.linspace(0, length - 1, SAMPLED).astype(np.int64)
        wrong = spots[tokens[spots] > largest]
        if len(wrong):
            raise damaged(file, int(wrong[0]) // BLOCK)
        return cls(folder, manifest, tokens)

    @property
    def bytes(self) -> int:
        """Bytes of UTF-8 text behind the tokens."""
        return int(self.manifest["bytes"])

    @property
    def named(self) -> str:
        """The text that the tokens are of, as the user named it; else the folder."""
        return str(self.manifest.get("source") or self.folder)

    @property
    def digest(self) -> str:
        """Identity of the content."""
        return str(self.manifest["digest"])

    @cached_property
    def documents(self) -> np.ndarray:
        """Where each document begins. Raises DataError where the index cannot be read."""
        try:
            starts = np.load(self.folder / "documents.npy", allow_pickle=False)
        except Exception:  # numpy's reader of headers raises many kinds
            raise self.index_damaged() from None
        if starts.ndim != 1 or starts.dtype.kind != "i":
            raise self.index_damaged()
        return starts

    def span(self, start: int, end: int) -> dict[str, Any]:
        """Where the tokens from `start` to before `end` are from: what a person looks for."""
        first, last = np.searchsorted(self.documents, [start, end - 1], side="right") - 1
        return {"tokens": [start, end], "documents": [int(first), int(last)]}

    def index_damaged(self) -> DataError:
        return DataError(f"{self.folder}/documents.npy is damaged; tokenize again")

    def verify(self) -> None:
        """Reads every byte.

        Raises:
          DataError: a block whose digest is not the manifest's (the first one is named), or an
            index that does not fit the tokens.
        """
        whole = hashlib.sha256()
        for number in range(len(self.manifest["blocks"])):
            whole.update(block_of(self, number))
        if whole.hexdigest() != self.digest:
            raise DataError(f"{self.folder}/manifest.json is not of these tokens; tokenize again")
        try:
            starts = self.documents
            fits = len(starts) == self.manifest["documents"] and starts[0] == 0
            # every document ends with the same token, which the last one shows
            fits = fits and bool(np.all(self.tokens[starts[1:] - 1] == self.tokens[-1]))
            fits = fits and bool(np.all(np.diff(starts) > 0))
        except IndexError:
            fits = False
        if not fits:
            raise self.index_damaged()


def block_of(file: TokenFile, number: int) -> bytes:
    """The tokens that one digest covers. Raises DataError where they have another."""
    block = file.tokens[number * BLOCK : (number + 1) * BLOCK].tobytes()
    if zlib.crc32(block) != file.manifest["blocks"][number]:
        raise damaged(file.folder / "tokens.bin", number)
    return block


class Verification:
    """Compares blocks of files with their digests in a thread of its own, while they are in use;
    of several processes each reads a share."""

    def __init__(self, files: Sequence[TokenFile], share: tuple[int, int] = (0, 1)):
        """`share`: this process, and how many there are."""
        self.found: DataError | None = None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.read, args=(files, *share), daemon=True)

    def __enter__(self) -> "Verification":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()

    def read(self, files: Sequence[TokenFile], first: int, stride: int) -> None:
        try:
            for file in files:
                for number in range(first, len(file.manifest["blocks"]), stride):
                    if self.done.is_set():
                        return
                    block_of(file, number)
        except DataError as error:
            self.found = error

    def check(self) -> None:
        """Raises DataError where something is damaged in what has been read so far."""
        if self.found is not None:
            raise self.found


def damaged(file: Path, block: int) -> DataError:
    return DataError(
        f"{file}: block {block} (tokens from {block * BLOCK}) is damaged; remove the folder and "
        "tokenize again"
    )
