"""Questions about images in files: rows of a .jsonl, and the part that an image is of."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lm.core.errors import DataError
from lm.data.held_out import place
from lm.data.tasks.rows import Problem, Row, jsonl
from lm.data.visual.example import Example, Stored, asked
from lm.data.visual.layouts import Part
from lm.text.interface import unpaired

HELD_OUT = 8  # one image of so many, of a set that was published in one part


def rows(path: Path) -> Iterator[Row]:
    """Objects of a .jsonl or .jsonl.gz. Raises DataError with file and line."""
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; data.root names the folder of the sets that have a name, and a "
            ".jsonl of your own is named with its own folder"
        )
    for row in jsonl(path):
        if isinstance(row, Problem):
            raise DataError(f"{row}; correct the file")
        yield row


def field(row: Row, name: str) -> str:
    """A text, or a number as text. Raises DataError where the row has none of that name."""
    value = row.values.get(name)
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        shown = json.dumps(row.values)[:80]
        raise DataError(f'{row.where}: a row has no text "{name}": {shown}')
    return whole(str(value), row)


def whole(text: str, row: Row) -> str:
    """A text of a row. Raises DataError where it is none that UTF-8 can hold."""
    if unpaired(text):
        raise DataError(f"{row.where}: half a surrogate pair in {text[:40]!r}: correct the file")
    return text


def replies(row: Row, name: str = "answer") -> tuple[str, ...]:
    """The right answer of a row, or all of a list of them. Raises DataError where one says
    nothing."""
    several = row.values.get(name)
    rows = [row]
    if isinstance(several, list) and several:
        rows = [replace(row, values=row.values | {name: one}) for one in several]
    found = tuple(field(one, name) for one in rows)
    if not all(text.strip() for text in found):
        raise DataError(f'{row.where}: "{name}" is blank: leave the row out')
    return found


def held_out(name: str, part: Part) -> bool:
    """Whether an image, or a statement, is of this part, by a hash of its name."""
    return (place(name) < 1 / HELD_OUT) == (part == "valid")


def question(
    name: str, row: Row, images: Path, answer: str = "answer", text: str = "question"
) -> Example:
    """The example of a row, whose question, answer and image are in fields of these names."""
    picture = Stored(str(images), field(row, "image"))
    right = replies(row, answer)
    kind = right[0] if right[0] in ("yes", "no") else "open"
    parts = asked(field(row, text), picture)
    return Example(id=name, parts=parts, answers=right, kind=kind)
