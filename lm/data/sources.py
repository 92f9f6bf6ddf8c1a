"""Text, from where the user has it: files, folders, globs, this Python's own library."""

import dataclasses
import glob
import gzip
import hashlib
import json
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from lm.core.errors import DataError

STDLIB = "stdlib:"
HUB = "hf:"
TEXT = (".txt", ".md", ".py", ".rst", ".text")
SKIPPED = ("site-packages", "__pycache__", "test", "tests", "idlelib", "lib2to3", "ensurepip")
SHOWN = 5  # malformed records told one by one

OnError = Literal["stop", "replace"]


@dataclasses.dataclass(frozen=True)
class Document:
    """One text, and where it is from."""

    name: str
    text: str


def files(spec: str) -> list[Path]:
    """The files of a spec, sorted: a file, folder or glob, or several, separated by commas.

    `stdlib:` is the Python library's own `.py` files without its tests.

    Raises:
      DataError: nothing is there.
    """
    if spec == STDLIB:
        root = Path(sysconfig.get_paths()["stdlib"])
        found = [p for p in root.rglob("*.py") if not set(p.relative_to(root).parts) & set(SKIPPED)]
        return sorted(found)
    found = []
    for part in spec.split(","):
        path = Path(part.strip()).expanduser()
        if path.is_dir():
            some = sorted(p for p in path.rglob("*") if p.is_file() and is_text(p))
        elif path.is_file():
            some = [path]
        else:
            some = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if os.path.isfile(name))
        if not some:
            raise DataError(f"no text in {part.strip()!r}: not a file, a folder of {TEXT} or .jsonl, or a glob")
        found += some
    return found


def is_text(path: Path) -> bool:
    name = path.name.removesuffix(".gz")
    return name.endswith((*TEXT, ".jsonl"))


def documents(spec: str, *, on_error: OnError = "stop") -> Iterator[Document]:
    """Every document: a text file is one, a line of `.jsonl` is one (its field `text`).

    Bytes are kept as they are: byte-order marks, CRLF and NUL are text.

    Raises:
      DataError: text that is not UTF-8 (file and byte offset), or malformed records.
    """
    if spec.startswith(HUB):
        yield from hub_documents(spec.removeprefix(HUB))
        return
    for path in files(spec):
        name = path.name.removesuffix(".gz")
        if name.endswith(".jsonl"):
            yield from records(path)
        else:
            with opened(path) as file:
                data = file.read()
            try:
                yield Document(str(path), data.decode())
            except UnicodeDecodeError as error:
                if on_error == "stop" and spec != STDLIB:
                    raise DataError(
                        f"{path}: not UTF-8 at byte {error.start}; convert it, or replace what is "
                        "not with data.on_error=replace (--errors=replace)"
                    ) from None
                yield Document(str(path), data.decode(errors="replace"))


def opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def records(path: Path, field: str = "text") -> Iterator[Document]:
    problems: list[str] = []
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                text = record[field]
                if not isinstance(text, str):
                    raise TypeError
            except (ValueError, RecursionError):
                problems.append(f"{path}:{number}: not JSON in UTF-8")
            except (KeyError, TypeError):
                problems.append(f'{path}:{number}: missing "{field}"')
            else:
                if not problems:
                    yield Document(f"{path}:{number}", text)
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError("; ".join(problems[:SHOWN]) + more)


def hub_documents(name: str) -> Iterator[Document]:
    try:
        import datasets
    except ImportError:
        raise DataError(f"hf:{name} needs the datasets package: pip install datasets") from None
    for number, row in enumerate(datasets.load_dataset(name, split="train", streaming=True)):
        yield Document(f"hf:{name}:{number}", row["text"])


def fingerprint(spec: str) -> str:
    """A cheap identity of the sources: names, sizes and times of change."""
    if spec.startswith(HUB):
        return hashlib.sha256(spec.encode()).hexdigest()
    digest = hashlib.sha256(spec.encode())
    for path in files(spec):
        stat = path.stat()
        digest.update(f"{path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def split(
    spec: str, valid: str | None, fraction: float, part: Literal["train", "valid"],
    on_error: OnError = "stop",
) -> Iterator[Document]:  # fmt: skip
    """The documents to train on, or those held out.

    With a `valid` spec, that. Otherwise whole documents, chosen by a hash of their names; the last
    characters where there is only one document (as nanoGPT holds out the end of Tiny Shakespeare).
    """
    if valid is not None:
        yield from documents(spec if part == "train" else valid, on_error=on_error)
        return
    several = documents(spec, on_error=on_error)
    first, second = next(several, None), next(several, None)
    if first is None:
        raise DataError(f"no documents in {spec!r}")
    if second is None:
        cut = int(len(first.text) * (1 - fraction))
        text = first.text[:cut] if part == "train" else first.text[cut:]
        yield Document(first.name, text)
        return
    for document in documents(spec, on_error=on_error):
        if (held_out(document.name, fraction)) == (part == "valid"):
            yield document


def held_out(name: str, fraction: float) -> bool:
    # the name without the folders above: the same choice wherever the data lie
    tail = "/".join(Path(name).parts[-2:])
    return int(hashlib.sha256(tail.encode()).hexdigest()[:8], 16) < fraction * 2**32
