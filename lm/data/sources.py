"""Text, from where the user has it: files, folders, globs, this Python's own library.

books/            a folder: its text files, recursively, behind links too, sorted
wiki/*.jsonl.gz   a glob (`**` crosses folders)
input.txt         one file, whatever its extension
rows.json         rows with a field `text`, one list or one a line; in a folder, only where named
stdlib:           this Python's own library, without its tests: about 12 MB
stdlib:*.py       a glob in it: here the modules that are no packages
hf:NAME           the train split of a data set, column "text"; needs lm[datasets]
a.txt,stdlib:     several, with commas between
"""

import codecs
import collections
import dataclasses
import functools
import glob
import gzip
import hashlib
import itertools
import json
import os
import sys
import sysconfig
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from lm.core.errors import AccessError, DataError
from lm.core.paths import at_home
from lm.data import reading
from lm.data.links import behind_links, below, once, present
from lm.data.reading import ROWS, content, ending, lines, listed, opened

STDLIB = "stdlib:"
HUB = "hf:"
TEXT = (".txt", ".md", ".py", ".rst", ".text")
SKIPPED = {"site-packages", "__pycache__", "test", "tests", "idlelib", "lib2to3", "ensurepip"}
SHOWN = 5  # malformed records told one by one

OnError = Literal["stop", "replace"]
Listing = list[tuple[str, list[Path]]]  # parts of a spec, and the files of each


@dataclasses.dataclass(frozen=True)
class Document:
    """One text, and where it is from."""

    name: str
    text: str


def files(spec: str) -> list[Path]:
    """The files of a spec, sorted: a file, folder or glob, or several, separated by commas. Each is
    there once, however often it is named and linked to.

    `stdlib:` is the Python library's own `.py` files without its tests.

    Raises:
      DataError: nothing is there, a link to nothing, or tokens in place of text.
    """
    return [path for _, paths in listing(spec) for path in paths]


def listing(spec: str) -> Listing:
    """The parts of a spec with the files of each, as `files` has them; none of a `hf:`."""
    some = parts(spec)
    named = ([] if part.startswith(HUB) else files_of(part) for part in some)
    return list(zip(some, once(named, tell), strict=True))


def files_of(part: str) -> list[Path]:
    """The files of one part of a spec, sorted."""
    path = at_home(part)
    if part.startswith(STDLIB):
        root = Path(sysconfig.get_paths()["stdlib"])
        pattern = PurePosixPath(part.removeprefix(STDLIB) or "**/*.py")
        inside = pattern.parts and not pattern.is_absolute()
        matched = set(matching(root, pattern.as_posix())) if inside else set()
        some = sorted(path for path in matched if path.is_file())
    elif os.path.isdir(path):
        if holds_tokens(path):
            raise DataError(f"{part!r} holds tokens: name the text they were made from")
        some = texts_below(path)
    elif os.path.isfile(path):
        some = [path]
    else:
        names = present(map(Path, glob.glob(str(path), recursive=True)))
        some = sorted(name for name in names if name.is_file())
    if not some:
        raise DataError(
            f"no text in {part!r}: it is not a file, a glob that matches some, or a folder "
            f"with {', '.join(TEXT)} or .jsonl in it"
        )
    return some


def matching(folder: Path, pattern: str) -> Iterator[Path]:
    """What a glob matches in a folder, some of it twice. It does not look into what is `SKIPPED`:
    the packages installed there are many times the library."""
    first, _, rest = pattern.partition("/")
    some: Iterable[Path] = folder.glob(first)
    if first == "**":
        yield from matching(folder, rest or "*")
        some, rest = (path for path in folder.iterdir() if not path.is_symlink()), pattern
    for path in some:
        if path.name not in SKIPPED and (not rest or path.is_dir()):
            yield from matching(path, rest) if rest else [path]


def parts(spec: str) -> list[str]:
    """What stands between the commas of a spec; a file may have a comma in its name."""
    if os.path.exists(os.path.expanduser(spec)):  # which takes a list too long for a name
        return [spec]
    some = [part.strip() for part in spec.split(",")]
    if not all(some):
        raise DataError(
            f"no text in {spec!r}: a part is empty; name files, folders, globs or stdlib:"
        )
    return some


def folders(spec: str) -> list[Path]:
    """The folders of a spec, of which every text is read, however deep it lies: those of a glob
    with `**` as well, and those that links in them lead to."""
    local = [at_home(part) for part in parts(spec) if not part.startswith((STDLIB, HUB))]
    above = [Path(*itertools.takewhile(lambda name: not glob.has_magic(name), path.parts))
             for path in local if "**" in path.parts]  # fmt: skip
    some = [path for path in [*local, *above] if path.is_dir()]
    return some + [link for path in some for link in behind_links(path, tell)]


def holds_tokens(folder: Path) -> bool:
    """Whether a folder is a token file, or of those that launch.tokenize makes."""
    names = (folder, folder / "train", folder / "valid")
    return any((name / "manifest.json").is_file() and (name / "tokens.bin").is_file()
               for name in names)  # fmt: skip


def refuse_among(texts: Sequence[str | None], out: Path) -> None:
    """Raises DataError where `out` lies in a folder of these texts: what is written there would be
    read as text of theirs."""
    for spec in filter(None, texts):
        for folder in folders(spec):
            if out.resolve().is_relative_to(folder.resolve()):
                raise DataError(
                    f"{out} is in {folder}, of which every text is read, those written there too: "
                    "choose another folder"
                )


def together(specs: Sequence[str]) -> str:
    """One spec of several.

    Raises:
      DataError: one is a file with a comma in its name, which can only stand alone.
    """
    for spec in specs if len(specs) > 1 else ():
        if "," in spec and parts(spec) == [spec]:
            raise DataError(
                f"{spec!r} has a comma in its name and stands beside other files: rename it"
            )
    return ",".join(specs)


def texts_below(folder: Path) -> list[Path]:
    """The texts in a folder, sorted. How many other files there are, and of which endings, is told,
    hidden ones aside."""
    others: collections.Counter[str] = collections.Counter()

    def named(path: Path) -> bool:
        found = is_text(path)
        if not found and not any(part[0] == "." for part in path.relative_to(folder).parts):
            others[ending(path) or "without an ending"] += 1
        return found

    some = below(folder, named, tell)
    if others:
        told = ", ".join(f"{count} {name}" for name, count in sorted(others.most_common(SHOWN)))
        if len(others) > SHOWN:
            told += f" and {len(others) - SHOWN} other endings"
        tell(f"{folder}: files that are no text are not read: {told}; a .json is where it is named")
    return some


def is_text(path: Path) -> bool:
    return ending(path) in (*TEXT, ".jsonl")


def documents(spec: str, *, on_error: OnError = "stop") -> Iterator[Document]:
    """Every document: a text file is one, a row of `.jsonl` or `.json` is one (its field `text`).

    Bytes are kept as they are: byte-order marks, CRLF and NUL are text.

    Raises:
      DataError: text that is not UTF-8 (file and byte offset), or malformed records.
    """
    yield from documents_in(listing(spec), on_error)


def documents_in(found: Listing, on_error: OnError = "stop") -> Iterator[Document]:
    """The documents of what is listed already, for who reads it more than once."""
    for part, paths in found:
        if part.startswith(HUB):
            yield from hub_documents(part.removeprefix(HUB))
        for path in paths:
            try:
                if ending(path) in ROWS:
                    yield from records(path, on_error)
                else:
                    # the library's own files are taken as they are: nobody here can convert them
                    anyway = "replace" if part.startswith(STDLIB) else on_error
                    yield Document(str(path), utf8(content(path), path, anyway))
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError(f"{path}: damaged gzip ({error}); copy it again") from None
            except OSError as error:
                raise AccessError(f"cannot read {path}: {error.strerror or error}") from None


def utf8(data: bytes, path: Path, on_error: OnError) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if on_error == "replace":
            return data.decode(errors="replace")
        raise DataError(
            f"{path}: not UTF-8 at byte {error.start}; convert it, or replace what is "
            "not with data.on_error=replace (--errors=replace)"
        ) from None


def records(path: Path, on_error: OnError = "stop") -> Iterator[Document]:
    """One document a row. From the first malformed row on, the others are only counted.

    A line above `reading.LONGEST` is left out, counted and told: it is never held whole.
    """
    problems: list[str] = []
    for where, row in rows(path, on_error):
        text, problem = field(row, on_error)
        if problem:
            problems.append(f"{where}: {problem}")
        elif not problems:
            yield Document(where, text)
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError("; ".join(problems[:SHOWN]) + more)


def rows(path: Path, on_error: OnError) -> Iterator[tuple[str, Any]]:
    """Where each row stands, and what it is: in a list of rows, a value, else a line."""
    several = listed(path, "strict" if on_error == "stop" else "replace")
    if several is not None:
        yield from ((f"{path}: row {number}", row) for number, row in enumerate(several, start=1))
        return
    long = 0
    with opened(path) as file:
        for number, line in enumerate(lines(file), start=1):
            if line is None:
                long += 1
                continue
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)  # a mark of the file, not of the record
            if line.strip():
                yield f"{path}:{number}", line
    if long:
        tell(f"warning: {path}: {long} lines above {reading.LONGEST >> 20} MiB are left out")


@functools.cache
def tell(text: str) -> None:
    """Says something once, however often the text is read."""
    print(text, file=sys.stderr)


def tell_same(train: object, valid: object) -> None:
    """Says that what is measured on, by its identity, is what is learned from."""
    if train == valid:
        tell("warning: data.valid is what is learned from: its figures say nothing of what is new")


def field(row: Any, on_error: OnError) -> tuple[str, str]:
    """The text of a record or of its line, and what is wrong with it ("" where nothing is)."""
    try:
        if isinstance(row, bytes):
            row = json.loads(row.decode(errors="strict" if on_error == "stop" else "replace"))
        text = row["text"]
        if not isinstance(text, str):
            raise TypeError
        text.encode()
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair, UTF-8 cannot
        if on_error == "replace":
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), ""
        return "", "not JSON in UTF-8"
    except (ValueError, RecursionError):
        return "", "not JSON in UTF-8"
    except (KeyError, TypeError, IndexError):
        return "", 'missing "text"'
    return text, ""


def hub_documents(name: str) -> Iterator[Document]:
    try:
        import datasets
    except ImportError:
        raise DataError(f"hf:{name} needs datasets: pip install 'lm[datasets]'") from None
    try:
        for number, row in enumerate(datasets.load_dataset(name, split="train", streaming=True)):
            if not isinstance(row.get("text"), str):
                raise DataError(f'hf:{name}: row {number} has no string "text": {sorted(row)}')
            yield Document(f"hf:{name}:{number}", row["text"])
    except (OSError, ValueError) as error:
        lasting = isinstance(error, FileNotFoundError | ValueError)  # no such data set, say
        kind = DataError if lasting else AccessError
        raise kind(f"cannot read hf:{name}: {' '.join(str(error).split())}") from None


def fingerprint(spec: str) -> str:
    """A cheap identity of the sources: names, sizes and times of change."""
    digest = hashlib.sha256(spec.encode())
    for path in files(spec):
        stat = path.stat()
        digest.update(f"{path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def content_digest(*specs: str, order: Callable[[list[Path]], list[Path]] = list) -> str:
    """Identity of what is in the sources, wherever a copy of them lies; `order`: of reading."""
    digest = hashlib.sha256()
    for path in itertools.chain.from_iterable(order(files(spec)) for spec in specs):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
