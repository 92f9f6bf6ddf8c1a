"""What training text shares with test sets is cut out (Brown et al. 2020, appendix C).

Around 13 words in a row that a test set has too, the text goes with 200 characters on each side.
What is left are pieces: short ones go, and a document in more than ten of them goes whole. A gram
that more than ten documents have is left alone. The paper's own program failed on long documents,
books among them: here a document has any length.
"""

import csv
import gzip
import itertools
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lm.core.errors import AccessError, DataError
from lm.core.paths import at_home
from lm.data.links import below
from lm.data.overlap import Span, merged
from lm.data.reading import LONGEST, ending, lines, opened
from lm.data.sources import files, parts, tell

MARGIN = 200  # characters that go on each side
LEAST = 200  # characters of a piece that stays
MOST = 10  # pieces of a document that stays
KINDS = (".jsonl", ".json", ".tsv", ".csv", ".txt")


def cut(text: str, spans: Sequence[Span]) -> list[str]:
    """What stays of a document that has these overlaps: itself where there are none, and nothing
    where there are too many."""
    if not spans:
        return [text]
    holes = merged((max(0, start - MARGIN), min(len(text), end + MARGIN)) for start, end in spans)
    starts = [0, *(end for _, end in holes)]
    ends = [*(start for start, _ in holes), len(text)]
    pieces = [text[start:end] for start, end in zip(starts, ends, strict=True) if end > start]
    if len(pieces) > MOST:
        return []
    return [piece for piece in pieces if len(piece) >= LEAST]


def held_out_texts(spec: str) -> Iterator[str]:
    """Every string of some test sets, each by itself: of `.jsonl` and `.json` those of any field,
    of `.csv` the cells, of other files the lines, cut at tabs. A folder means all such files in it.

    Raises:
      DataError: a file that cannot be read, or is not what its name says.
    """
    for path in held_out_files(spec):
        kind = ending(path)
        try:
            with opened(path) as file:
                if kind == ".json":
                    yield from strings(whole_or_lines(file.read()))
                    continue
                if kind == ".csv":
                    csv.field_size_limit(LONGEST)
                    text = (line.decode(errors="replace") for line in lines(file) if line)
                    yield from itertools.chain.from_iterable(csv.reader(text))
                    continue
                for line in lines(file):
                    if line is None or not line.strip():
                        continue
                    if kind == ".jsonl":
                        yield from strings(json.loads(line))
                    else:
                        yield from line.decode(errors="replace").rstrip("\r\n").split("\t")
        except csv.Error as error:
            raise DataError(f"{path}: not CSV ({error}); name the test sets' own files") from None
        except (ValueError, RecursionError):
            raise DataError(f"{path}: not JSON; name the test sets' own files") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"cannot read {path}: {error}") from None
        except OSError as error:
            raise AccessError(f"cannot read {path}: {error.strerror or error}") from None


def held_out_files(spec: str) -> Iterator[Path]:
    for part in parts(spec):
        folder = at_home(part)
        if not os.path.isdir(folder):
            yield from files(part)
            continue
        some = below(folder, lambda path: ending(path) in KINDS, tell)
        if not some:
            raise DataError(f"no test sets in {folder}: no {', '.join(KINDS)} there")
        yield from some


def whole_or_lines(data: bytes) -> Any:
    """What a `.json` holds: one value, or one a line. Raises ValueError where it is neither."""
    try:
        return json.loads(data)
    except ValueError:
        return [json.loads(line) for line in data.splitlines() if line.strip()]


def strings(value: Any) -> Iterator[str]:
    """The strings anywhere in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)
