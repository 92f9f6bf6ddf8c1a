"""Rows of the files that tasks come in, before anybody has asked what they mean.

.tsv      cells between tabs, never quoted: a quotation mark in GLUE is a quotation mark
.csv      cells between commas, quoted (SWAG, Story Cloze)
.jsonl    an object a line
.json     likewise, or one list of objects; SQuAD: articles of paragraphs of questions
.txt      RACE: a passage a file with its questions (race.py)
columns   CoNLL: a word a line with its tag, a blank line after each sentence

Each may be gzipped. What cannot be read is a `Problem` among the rows, so that whoever reads may
tell several at once.
"""

import codecs
import csv
import dataclasses
import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lm.core.errors import DataError
from lm.data.reading import LONGEST, listed, opened

NOT_A_WORD = re.compile(r"\d+[-.]\d+")  # CoNLL-U: a contraction's range, a word not in the text


@dataclasses.dataclass(frozen=True)
class Row:
    """Named values, and where they stand."""

    where: str  # file:line
    name: str  # what to call the row where it has no id of its own
    values: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is wrong with a row."""

    where: str
    text: str
    last: bool = False  # what stands behind it in the file cannot be read

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]


def lines(path: Path) -> Iterator[tuple[int, str | Problem]]:
    """Every line with its number, from 1, without its end (LF or CRLF).

    Only LF divides lines: the other characters that Unicode calls line ends occur in text.

    Raises:
      DataError: the file cannot be read, or is a damaged gzip.
    """
    try:
        with opened(path) as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                try:
                    yield number, line.removesuffix(b"\n").removesuffix(b"\r").decode()
                except UnicodeDecodeError as error:
                    text = f"not UTF-8 at byte {error.start} of the line"
                    yield number, Problem(f"{path}:{number}", text)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip ({error}); copy it again") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


def tsv(path: Path, header: tuple[str, ...] = ()) -> Iterator[Row | Problem]:
    """The first line names the columns; where it names none of `header`, they are `header`."""
    names: tuple[str, ...] = ()
    for number, line in lines(path):
        if isinstance(line, Problem):
            yield line
            continue
        if not line:
            continue
        cells = line.split("\t")
        if not names:
            headed = not header or set(header) & set(cells)
            names = tuple(cells) if headed else header
            if headed:
                continue
        yield _table_row(path, number, names, cells)


def quoted_csv(path: Path) -> Iterator[Row | Problem]:
    """The first line names the columns. A quoted cell may hold commas and line ends.

    Where a quotation stays open, no line behind it is sure to begin a row: it is the last problem.
    """
    unreadable: list[Problem] = []
    marks = 0  # of quotation, in the lines of a row

    def text() -> Iterator[str]:
        nonlocal marks
        for _, line in lines(path):
            if isinstance(line, Problem):
                unreadable.append(line)
                yield "\n"
            else:
                marks += line.count('"')
                yield line + "\n"

    csv.field_size_limit(LONGEST)
    reader = csv.reader(text(), strict=True)
    names: list[str] = []
    still = True
    while still:
        first, marks = reader.line_num + 1, 0
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:  # the reader goes on with the next line
            still = marks % 2 == 0
            yield Problem(f"{path}:{first}", f"not CSV ({error})", last=not still)
            continue
        if cells and not names:
            names = cells
        elif cells:
            yield _table_row(path, reader.line_num, names, cells)
    yield from unreadable


def _table_row(path: Path, number: int, names: Sequence[str], cells: list[str]) -> Row | Problem:
    where = f"{path}:{number}"
    if len(cells) != len(names):
        return Problem(where, f"{len(cells)} columns, expected {len(names)} ({', '.join(names)})")
    return Row(where, f"{stem(path)}:{number}", dict(zip(names, cells, strict=True)))


def jsonl(path: Path) -> Iterator[Row | Problem]:
    """An object a line, blank lines are none; or those of a `.json` that is one list, which is
    parsed whole. A field that is null is none: exports of mixed rows have all columns in each."""
    several = listed(path)
    for number, values in enumerate(several or (), start=1):
        yield _object_row(f"{path}: row {number}", f"{stem(path)}:{number}", values)
    for number, line in lines(path) if several is None else ():
        where = f"{path}:{number}"
        if isinstance(line, Problem):
            yield line
            continue
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            yield Problem(where, "not JSON")
            continue
        yield _object_row(where, f"{stem(path)}:{number}", values)


def _object_row(where: str, name: str, values: Any) -> Row | Problem:
    if not isinstance(values, dict):
        return Problem(where, f"a JSON {type(values).__name__}, expected an object")
    return Row(where, name, {key: value for key, value in values.items() if value is not None})


def squad(path: Path) -> Iterator[Row | Problem]:
    """A question a row: id, title, section, context, question, answers, is_impossible.

    The layout is that of SQuAD 1.1 and 2.0. A problem stands at its place in the JSON: files of
    this kind are one line.
    """
    text = [line for _, line in lines(path)]
    for line in text:
        if isinstance(line, Problem):
            raise DataError(f"{line}; convert it")
    try:
        articles = json.loads("\n".join(map(str, text)))["data"]
        places = [
            (f"{path}: data[{a}].paragraphs[{p}].qas[{q}]", article, paragraph, question)
            for a, article in enumerate(articles)
            for p, paragraph in enumerate(article["paragraphs"])
            for q, question in enumerate(paragraph["qas"])
        ]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not SQuAD's JSON ({error!r}): expected data[].paragraphs[].qas[]"
        ) from None
    for number, (where, article, paragraph, question) in enumerate(places):
        if not isinstance(question, dict):
            yield Problem(where, f"a JSON {type(question).__name__}, expected an object")
            continue
        above = {
            "title": article.get("title"),
            "section": article.get("section_title"),  # of QuAC
            "context": paragraph.get("context"),
        }
        yield Row(where, f"{stem(path)}:{number}", above | question)


def conll(path: Path, word: int, tag: int) -> Iterator[Row | Problem]:
    """A sentence a row: words, tags, document, id.

    `word` and `tag` number the columns from 0, or from -1 backwards. Columns stand between tabs
    where the file has one, else between spaces. Comments begin with `#` and have no tab, in files
    whose columns do: `#` itself is a word of many a tweet. A line of one column is a word alone.
    """
    document = name = None
    words: list[str] = []
    tags: list[str] = []
    start, width, broken = 0, 0, False

    def sentence() -> Iterator[Row]:
        if words and not broken:
            values = {
                "words": words,
                "tags": tags if width > 1 else None,
                "document": document,
                "id": name,
            }
            yield Row(f"{path}:{start}", f"{stem(path)}:{start}", values)

    with_tabs = any(isinstance(line, str) and "\t" in line for _, line in lines(path))
    for number, line in lines(path):
        if isinstance(line, Problem):
            yield line
            broken = True
            continue
        place = f"{stem(path)}:{number}"
        begins_document = line.split()[:1] == ["-DOCSTART-"]
        if begins_document or not line.strip():
            yield from sentence()
            words, tags, name, broken = [], [], None, False
            document = place if begins_document else document
            continue
        if with_tabs and line.startswith("#") and "\t" not in line:
            key, _, value = line[1:].partition("=")
            document = place if key.split()[:1] == ["newdoc"] else document
            name = value.strip() if key.strip() == "sent_id" else name
            continue
        cells = line.split("\t") if with_tabs else line.split()
        if word > 0 and NOT_A_WORD.fullmatch(cells[0]):
            continue
        width = width or len(cells)
        if len(cells) != width or not all(-width <= column < width for column in (word, tag)):
            yield Problem(f"{path}:{number}", f"{len(cells)} columns, expected {width}")
            broken = True
            continue
        start = start if words else number
        words.append(cells[word])
        tags.append(cells[tag])
    yield from sentence()
