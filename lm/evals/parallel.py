"""Sentences and their translations: two files of one text, a sentence a line."""

import html
from collections.abc import Callable, Iterator
from pathlib import Path

from lm.core.errors import DataError
from lm.data.reading import content
from lm.data.sources import utf8
from lm.data.tasks.rows import Row
from lm.text.detokenizer import MARK, ONE_BILLION

TOKENISED = {"en": "src-", "de": "targ-"}  # how OpenNMT's files of WMT begin, words apart


def pairs(source: Path, target: Path) -> list[tuple[int, str, str]]:
    """Number of the line, and both sides; lines that are empty on one are left out.

    Raises:
      DataError: one file has more lines than the other, or cannot be read.
    """
    texts = []
    for path in (source, target):
        texts.append(utf8(content(path), path, "stop").removesuffix("\n").split("\n"))
    if len(texts[0]) != len(texts[1]):
        raise DataError(
            f"{source} has {len(texts[0])} lines and {target} {len(texts[1])}: they are not of one "
            "text"
        )
    numbered = enumerate(zip(*texts, strict=True), start=1)
    return [(number, a, b) for number, (a, b) in numbered if a.strip() and b.strip()]


def reader(source: str, target: str) -> Callable[[Path], Iterator[Row]]:
    """Rows `source` and `target` of the file of a language, and of that of the other beside it."""

    def rows(path: Path) -> Iterator[Row]:
        plain = unescaped if path.name.startswith(TOKENISED.get(source, "/")) else str.strip
        for number, a, b in pairs(path, beside(path, source, target)):
            values = {"source": plain(a), "target": plain(b)}
            yield Row(f"{path}:{number}", f"{path.name}:{number}", values)

    return rows


def beside(path: Path, source: str, target: str) -> Path:
    """The same text in the other language. Raises DataError where it is not there."""
    name = path.name.removesuffix(".gz")
    if name.endswith(f".{source}"):
        name = f"{name.removesuffix(f'.{source}')}.{target}"
    else:
        name = name.replace(TOKENISED[source], TOKENISED[target])
    for found in (path.with_name(name), path.with_name(f"{name}.gz")):
        if found.is_file():
            return found
    raise DataError(f"{path} has no {name} beside it; put the translation there")


def unescaped(line: str) -> str:
    """A line of words between blanks and escapes of XML as it would be written."""
    return ONE_BILLION.write(html.unescape(line.strip())).replace(MARK, "")
