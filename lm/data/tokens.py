"""Tokenised text as one flat file of ids with a manifest, memory-mapped.

    <folder>/tokens.bin      uint16 or uint32 ids, each document followed by the end token
    <folder>/documents.npy   where each document begins
    <folder>/manifest.json   lengths, digests, the tokenizer's digest

`launch.tokenize` makes a folder of three: `tokenizer`, `train` and `valid`.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lm.core.config import require
from lm.core.errors import DataError
from lm.data.sources import Document, OnError, fingerprint, split
from lm.text.tokenizer import Tokenizer, load

FORMAT = 1
BLOCK = 1 << 20  # tokens a digest covers
PIECE = 1 << 16  # characters of a long document that are encoded in one go, where a seam is near
TOGETHER, CALL = 1024, 1 << 22  # pieces, and characters, a call of the tokenizer at most
SAMPLED = 1024  # ids looked at when a file is opened
TOLD = 5.0  # seconds between lines of progress

# No vocabulary here has a token across these: before one blank between two words and, only where
# there are no blanks, after one newline between two lines. Cut there, a document has the same ids
# as whole; GPT-1 alone has a token for the newline, and loses it where a piece ends with one.
SEAMS = (re.compile(r"\S(?= \S)"), re.compile(r"\S\n(?=\S)"))


Part = Literal["train", "valid"]
Row = tuple[np.ndarray, int, bool]  # ids, bytes of text behind them, whether a document ends here


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

    def documents(self, part: Part) -> Iterator[Document]:
        """The text itself; decoded again where the configuration names a folder of tokens."""
        ready = self.made_by_tokenize(part)
        if ready is not None:
            return decoded(ready)
        return split(self.train, self.valid, self.valid_fraction, part, self.on_error)

    def made_by_tokenize(self, part: Part) -> Path | None:
        """The token file that the configuration names, where it names one instead of text.

        Raises:
          DataError: the file is for training and nothing is named to measure on.
        """
        spec = self.train if part == "train" or self.valid is None else self.valid
        folder = Path(spec).expanduser()
        if (folder / part / "manifest.json").is_file():
            return folder / part
        if not (folder / "manifest.json").is_file():
            return None
        if part == "valid" and self.valid is None:
            raise DataError(
                f"{folder} is one token file, and nothing is held out: set data.valid, or name a "
                "folder that launch.tokenize made"
            )
        return folder


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

    def index_damaged(self) -> DataError:
        return DataError(f"{self.folder}/documents.npy is damaged; tokenize again")

    def verify(self) -> None:
        """Reads every byte.

        Raises:
          DataError: a block whose digest is not the manifest's (the first one is named), or an
            index that does not fit the tokens.
        """
        whole = hashlib.sha256()
        for number, expected in enumerate(self.manifest["blocks"]):
            block = self.tokens[number * BLOCK : (number + 1) * BLOCK].tobytes()
            whole.update(block)
            if zlib.crc32(block) != expected:
                raise damaged(self.folder / "tokens.bin", number)
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


def damaged(file: Path, block: int) -> DataError:
    return DataError(
        f"{file}: block {block} (tokens from {block * BLOCK}) is damaged; remove the folder and "
        "tokenize again"
    )


def write_tokens(
    texts: Iterable[Document],
    tokenizer: Tokenizer,
    folder: Path,
    source: str = "",
    report: Callable[[str], None] = print,
) -> None:
    """Tokenises documents into `folder`, each followed by the end token.

    Holds some million characters at a time and the index of all.

    Raises:
      DataError: there is no text.
    """

    def rows() -> Iterator[Row]:
        for batch in batched(texts):
            for (text, last), ids in zip(
                batch, tokenizer.encode_arrays([text for text, _ in batch]), strict=True
            ):
                row = np.append(ids, tokenizer.end) if last else ids
                yield row, len(text.encode()), last

    write_rows(rows(), tokenizer, folder, source, report)


def write_rows(
    rows: Iterable[Row],
    tokenizer: Tokenizer,
    folder: Path,
    source: str,
    report: Callable[[str], None],
    index: Mapping[str, "array[int]"] | None = None,
) -> None:
    """Writes ids one row after another into `folder`, which appears whole or not at all.

    Each array of `index`, which may grow with the rows, is kept as NAME.npy. Where it takes long,
    `report` gets a line every few seconds. Of two processes that write one folder, the first
    one's stays.

    Raises:
      DataError: there is no text.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
    work.chmod(0o755)
    try:
        dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
        size = length = largest = 0
        starts = array("q", [0])
        whole = hashlib.sha256()
        began = told = time.monotonic()
        with (work / "tokens.bin").open("wb") as file:
            for row, read, last in rows:
                data = row.astype(dtype).tobytes()
                whole.update(data)
                file.write(data)
                size += read
                length += len(row)
                largest = max(largest, int(row.max(initial=0)))
                if last:
                    starts.append(length)
                if (now := time.monotonic()) - told > TOLD:
                    told = now
                    speed = size / (now - began) / 1e6
                    report(f"tokenized {size / 1e6:.0f} MB, {length:,} tokens, {speed:.1f} MB/s")
        starts.pop()
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
        for name, values in (index or {}).items():
            np.save(work / f"{name}.npy", np.array(values, np.int64))
            manifest[name] = zlib.crc32(values.tobytes())
        (work / "manifest.json").write_text(json.dumps(manifest) + "\n")
        publish(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def publish(work: Path, folder: Path) -> None:
    """Renames a folder that is whole, manifest included, unless another process was first."""
    try:
        os.rename(work, folder)
    except OSError:
        if not (folder / "manifest.json").exists():
            raise


def batched(documents: Iterable[Document]) -> Iterator[list[tuple[str, bool]]]:
    """Pieces of documents, and whether a document ends there, some million characters at a time."""
    batch: list[tuple[str, bool]] = []
    held = 0
    for document in documents:
        start, end = 0, len(document.text)
        while start < end or end == 0:
            cut = seam(document.text, start)
            batch.append((document.text[start:cut], cut == end))
            held += cut - start
            if held >= CALL or len(batch) >= TOGETHER:
                yield batch
                batch, held = [], 0
            start = cut
            if end == 0:
                break
    if batch:
        yield batch


def seam(text: str, start: int) -> int:
    """Where the piece that begins at `start` ends: at a seam, or very late where there is none."""
    late = start + 16 * PIECE
    if len(text) > start + PIECE:
        for pattern in SEAMS:
            if found := pattern.search(text, start + PIECE, late):
                return found.end()
    return min(late, len(text))


def prepare(
    config: TextConfig, tokenizer: Tokenizer, report: Callable[[str], None] = print
) -> tuple[TokenFile, TokenFile]:
    """The token files to train and to measure on, tokenised now or by an earlier run."""
    train, valid = (prepare_part(config, tokenizer, part, report) for part in get_args(Part))
    return train, valid


def prepare_part(
    config: TextConfig, tokenizer: Tokenizer, part: Part, report: Callable[[str], None]
) -> TokenFile:
    ready = config.made_by_tokenize(part)
    if ready is None:
        key: list[object] = [fingerprint(config.train)]
        key += [
            config.valid and fingerprint(config.valid),
            config.valid_fraction,
            config.on_error,
            tokenizer.digest,
            FORMAT,
        ]
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
        ready = cache_folder(config) / "tokens" / name / part
        if not (ready / "manifest.json").exists():
            source = config.valid if part == "valid" and config.valid else config.train
            write_tokens(config.documents(part), tokenizer, ready, source, report)
    return TokenFile.open(ready, vocab_size=tokenizer.vocab_size, tokenizer_digest=tokenizer.digest)


def decoded(folder: Path) -> Iterator[Document]:
    """The documents of a token file that lies beside its tokenizer."""
    tokenizer = load(folder.parent / "tokenizer")
    file = TokenFile.open(
        folder, vocab_size=tokenizer.vocab_size, tokenizer_digest=tokenizer.digest
    )
    ends = [*file.documents[1:].tolist(), len(file.tokens)]
    for number, (start, end) in enumerate(zip(file.documents.tolist(), ends, strict=True)):
        yield Document(
            f"{folder}:{number}", tokenizer.decode(file.tokens[start : end - 1].tolist())
        )


def cache_folder(config: TextConfig) -> Path:
    chosen = config.cache or os.environ.get("LM_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "lm"
