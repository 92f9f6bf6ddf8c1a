"""One file: its bytes, plain or behind gzip, its lines, and the list of rows that a `.json` may be.

A name says what a file is in capitals too. A list of rows is parsed whole and needs memory of
several times its size; of the same rows a line, one is held at a time.
"""

import codecs
import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lm.core.errors import AccessError, DataError

ROWS = (".jsonl", ".json")  # endings of files of rows
LONGEST = 64 << 20  # bytes of one record
HEAD = 1 << 10  # bytes in which a file that is a list begins to be one


def ending(path: Path) -> str:
    """What a file's name ends with, in small letters and without `.gz`: ".txt"."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    packed = path.suffix.lower() == ".gz"
    if packed and path.stat().st_size == 0:  # which gzip takes for one of no text
        raise EOFError("it is empty")
    return gzip.open(path) if packed else path.open("rb")


@contextlib.contextmanager
def readable(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """`opened`. Raises DataError where the file cannot be read, or is damaged."""
    try:
        with opened(path) as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip ({error}); copy it again") from None
    except OSError as error:
        raise AccessError(f"cannot read {path}: {error.strerror or error}") from None


def content(path: Path) -> bytes:
    """All of a file, unpacked where it is a `.gz`.

    Raises:
      DataError: it cannot be read, or is damaged.
    """
    with readable(path) as file:
        return file.read()


def lines(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes | None]:
    """The lines of a file; None for each that is longer than `LONGEST` bytes."""
    while line := file.readline(LONGEST + 1):
        if len(line) <= LONGEST or line.endswith(b"\n"):
            yield line
            continue
        while rest := file.readline(LONGEST):
            if rest.endswith(b"\n"):
                break
        yield None


def listed(path: Path, errors: str = "strict") -> list[Any] | None:
    """The rows of a `.json` that is one list; None of any other file, which has a row a line.

    Raises:
      DataError: it begins as a list and is no JSON, or cannot be read.
    """
    if ending(path) != ".json":
        return None
    with readable(path) as file:
        head = file.read(HEAD)
        if not head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
            return None
        data = head + file.read()
    try:
        found: list[Any] = json.loads(data.decode("utf-8-sig", errors))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: begins as a list and is not JSON in UTF-8 ({error})") from None
    return found
