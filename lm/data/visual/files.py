"""Questions about images in files: rows of a .jsonl, and the part that an image is of."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lm.core.errors import DataError
from lm.data.visual.example import Example, Stored, asked
from lm.data.visual.layouts import Part

HELD_OUT = 8  # one image of so many, of a set that was published in one part


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a .jsonl or .jsonl.gz. Raises DataError with file and line."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; --set data.root names the folder of data")
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number}: no JSON object: {line[:60]!r}")
            yield row


def field(row: dict[str, Any], name: str, path: Path) -> str:
    """A text, or a number as text. Raises DataError where the row has none of that name."""
    value = row.get(name)
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise DataError(f'{path}: a row has no text "{name}": {json.dumps(row)[:80]}')
    return str(value)


def held_out(name: str, part: Part) -> bool:
    """Whether an image, or a statement, is of this part, by a hash of its name."""
    return (zlib.crc32(name.encode()) % HELD_OUT == 0) == (part == "valid")


def question(
    name: str, row: dict[str, Any], path: Path, images: Path, answer: str, text: str = "question"
) -> Example:
    """The example of a row, whose question, answer and image are in fields of these names."""
    picture = Stored(str(images), field(row, "image", path))
    reply = field(row, answer, path)
    kind = reply if reply in ("yes", "no") else "open"
    parts = asked(field(row, text, path), picture)
    return Example(id=name, parts=parts, answers=(reply,), kind=kind)
