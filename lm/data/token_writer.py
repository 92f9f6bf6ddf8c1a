"""Writes token files (lm/data/token_file.py): documents of any length, some at a time."""

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
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lm.core.checksum import checksum
from lm.core.errors import DataError
from lm.data.sources import Document
from lm.data.token_file import BLOCK, FORMAT
from lm.text.tokenizer import Tokenizer

PIECE = 1 << 16  # characters of a long document that are encoded in one go, where a seam is near
TOGETHER, CALL = 1024, 1 << 22  # pieces, and characters, a call of the tokenizer at most
TOLD = 5.0  # seconds between lines of progress

# No vocabulary here has a token across these: before one blank between two words and, only where
# there are no blanks, after one newline between two lines. Cut there, a document has the same ids
# as whole, but for GPT-1's: it alone has a token for the newline, and loses it where a piece ends
# with one; and ftfy mends a piece as if it were whole: `&amp;` stays only behind a `<` of the same
# piece.
SEAMS = (re.compile(r"\S(?= \S)"), re.compile(r"\S\n(?=\S)"))

Row = tuple[np.ndarray, int, bool]  # ids, bytes of text behind them, whether a document ends here


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
      DataError: there is no text, or the folder cannot be written.
    """

    def rows() -> Iterator[Row]:
        for batch in batched(texts, whole=not may_be_cut(tokenizer)):
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
      DataError: there is no text, or the folder cannot be written.
    """
    with made_whole(folder) as work:
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
        manifest["checksum"] = checksum(manifest)
        (work / "manifest.json").write_text(json.dumps(manifest) + "\n")


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """A folder to write in that becomes `folder` at the end, unless another process was first.

    Raises:
      DataError: it cannot be written, and nothing is left.
    """
    work = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
        work.chmod(0o755)
        yield work
        publish(work, folder)
    except DataError as error:  # of a folder in this one, say
        raise DataError(str(error).replace(str(work), str(folder))) from None
    except OSError as error:
        raise DataError(
            f"cannot write {folder}: {error.strerror or error}; make room there, or choose another "
            "folder"
        ) from None
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def publish(work: Path, folder: Path) -> None:
    """Renames a folder that is whole, manifest included, unless another process was first."""
    try:
        os.rename(work, folder)
    except OSError:
        if not (folder / "manifest.json").exists():
            raise


def may_be_cut(tokenizer: Tokenizer) -> bool:
    """Whether a text may be cut at a seam. Of SentencePiece's models some put a blank before every
    text, however it begins, and so before every piece of one."""
    before, behind = tokenizer.encode_batch(["a", " a"])
    return tokenizer.encode("a a") == before + behind


def batched(
    documents: Iterable[Document], *, whole: bool = False
) -> Iterator[list[tuple[str, bool]]]:
    """Pieces of documents, and whether a document ends there, some million characters at a time;
    the documents themselves where they are to stay `whole`."""
    batch: list[tuple[str, bool]] = []
    held = 0
    for document in documents:
        start, end = 0, len(document.text)
        while start < end or end == 0:
            cut = end if whole else seam(document.text, start)
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
