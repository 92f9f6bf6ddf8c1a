"""The rows of files of conversations, as they stand: lines of text, and what people have labeled.

The labelling page appends to `labels/*.jsonl`, an object a line, one of these kinds:

    {"kind": "ranking", "item", "labeler", "messages", "answers", "ranks"}    1 the best
    {"kind": "demonstration", "item", "labeler", "messages", "answer"}
    {"kind": "skip", "item", "labeler"}
    {"kind": "undo", "of": item, "labeler"}

A ranking has the prompt's "user" too, where it is known, and may have of each answer "ratings",
1 to 7, "metadata", the answers to the yes/no questions that were given, and "ended", false of an
answer that was cut off; one beside which the labeler wrote an answer of his own has that "answer".
A later record of an item by the same labeler stands for the earlier one, an undo takes it back. To
`labels.jsonl` the pages append, so that what other files of a folder hold is earlier. A line that
was being written when the machine went down is passed over, and told.
"""

import hashlib
import itertools
import json
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from lm.data.links import shown
from lm.data.reading import ending, opened
from lm.data.sources import TEXT, files, tell
from lm.data.tasks.rows import Problem, Row, jsonl, lines, stem

FILE = "labels.jsonl"
BEGUN = b'{"kind"'  # how the page begins a record
KINDS = ("ranking", "demonstration", "skip", "undo")
END_OF_UTTERANCE = "__eou__"  # between the turns of a line
PROSE = set(TEXT) - {".txt"}  # endings of files that are about rows, as a README is, and hold none


def conversation_rows(spec: str) -> Iterator[Row | Problem]:
    """The rows of JSON files, of which the labels are those that stand, and of `.txt` files of
    dialogues the lines, as {"dialogue": line}. Other texts are passed over and told."""
    found = from_the_oldest(files_of_rows(spec))
    silent = [path for path in found if ending(path) == ".txt" and not speaks(path)]
    pass_over(silent, f"no {END_OF_UTTERANCE} between turns")
    some = (path for path in found if path not in silent)
    return standing(itertools.chain.from_iterable(map(rows_of, some)))


def files_of_rows(spec: str, prose: Container[str] = PROSE) -> list[Path]:
    """The files of a spec without those of such endings, which are told."""
    found = files(spec)
    pass_over([path for path in found if ending(path) in prose], "text, no rows")
    return [path for path in found if ending(path) not in prose]


def pass_over(paths: list[Path], why: str) -> None:
    if paths:
        tell(f"warning: {shown(paths)} passed over: {why}")


def speaks(path: Path) -> bool:
    """Whether the lines of a text are dialogues."""
    return any(isinstance(line, str) and END_OF_UTTERANCE in line for _, line in lines(path))


def rows_from_the_oldest(paths: Iterable[Path]) -> list[Path]:
    """`from_the_oldest` of the files that are not prose: what is about rows changes none."""
    return from_the_oldest(path for path in paths if ending(path) not in PROSE)


def from_the_oldest(paths: Iterable[Path]) -> list[Path]:
    """The files in their order, but those last to which labels are appended."""
    return sorted(paths, key=lambda path: path.name == FILE)


def rows_of(path: Path) -> Iterable[Row | Problem]:
    return spoken_lines(path) if ending(path) == ".txt" else whole_lines(path)


def spoken_lines(path: Path) -> Iterator[Row | Problem]:
    """DailyDialog's form: a dialogue a line."""
    for number, line in lines(path):
        if isinstance(line, Problem):
            yield line
        elif line.strip():
            yield Row(f"{path}:{number}", f"{stem(path)}:{number}", {"dialogue": line})


def whole_lines(path: Path) -> list[Row | Problem]:
    """The rows of a file; of one with labels without a last line that nobody finished."""
    rows = list(jsonl(path))
    labels = any(isinstance(row, Row) and "kind" in row.values for row in rows)
    if rows and isinstance(rows[-1], Problem) and (labels or len(rows) == 1):
        with opened(path) as file:
            content = file.read()
        if not content.endswith(b"\n") and (labels or content.startswith(BEGUN)):
            tell(f"{rows[-1].where}: a half-written record is left out")
            rows.pop()
    return rows


def standing(rows: Iterable[Row | Problem]) -> Iterator[Row | Problem]:
    """All rows, of the labels those that nothing replaces or takes back."""
    found: dict[tuple[object, ...], Row | Problem] = {}
    for number, row in enumerate(rows):
        kind = row.values.get("kind") if isinstance(row, Row) else None
        if kind not in KINDS or not isinstance(row, Row):
            found[(number,)] = row
            continue
        name = "of" if kind == "undo" else "item"
        if not isinstance(row.values.get(name), str):
            found[(number,)] = Problem(row.where, f'"{name}" is no string')
            continue
        key = (row.values[name], str(row.values.get("labeler", "")))
        found.pop(key, None)
        if kind in ("ranking", "demonstration"):
            found[key] = row
    yield from found.values()


def digest(told: Any) -> str:
    """A name for what JSON can hold."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
