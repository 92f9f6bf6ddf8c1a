"""Prompts of a file, and the rows of what is written after them, in another.

Rows are appended as they come, so that what was interrupted goes on: a text that is there is not
written again.
"""

import dataclasses
import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm.core.errors import ConfigError, DataError
from lm.core.paths import writing
from lm.data.reading import ROWS, ending
from lm.data.tasks.rows import Problem, jsonl, lines
from lm.evals.writing import Written
from lm.text.interface import unpaired


@dataclasses.dataclass(frozen=True)
class Source:
    """A prompt, and where it stands."""

    where: str
    prompt: str


def read_sources(path: Path) -> list[Source]:
    """Rows of `prompt` of JSON, or lines of text, perhaps gzipped; blank lines are none.

    Raises:
      DataError: a line that is none of these, or no prompt at all.
    """
    found = []
    if ending(path) in ROWS:
        for row in jsonl(path):
            if isinstance(row, Problem):
                raise DataError(str(row))
            prompt = row.values.get("prompt")
            if not isinstance(prompt, str) or unpaired(prompt):
                raise DataError(f"{row.where}: prompt must be text, got {ascii(prompt):.40}")
            found.append(Source(row.where, prompt))
    else:
        for number, line in lines(path):
            if isinstance(line, Problem):
                raise DataError(str(line))
            if line.strip():
                found.append(Source(f"{path}:{number}", line))
    if not found:
        raise DataError(f"no prompts in {path}: give one a line")
    return found


BEGIN = b'{"number": '


class Rows:
    """A file of `draws` texts of each prompt, in any order. `made` is what tells the model and its
    settings from others.

    Raises:
      DataError: it holds something else, or texts that were made otherwise.
      ConfigError: it cannot be written, or another process writes it.
    """

    def __init__(self, path: Path, sources: Sequence[Source], draws: int, made: str):
        self.path, self.sources, self.draws, self.made = path, sources, draws, made
        with writing(path):
            self.file = path.open("ab+")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another process writes {path}: name another --out") from None
        self.file.seek(0)
        text = self.file.read()
        whole = text.rfind(b"\n") + 1
        lines = text[:whole].splitlines()
        places = [self._place(f"{path}:{n}", line) for n, line in enumerate(lines, start=1)]
        self.done = {place for place in places if place is not None}
        tail = text[whole:]
        if tail[: len(BEGIN)] != BEGIN[: len(tail)]:
            raise self._other(f"{path}:{len(lines) + 1}")
        os.ftruncate(self.file.fileno(), whole)  # its last row was cut off

    def _place(self, where: str, line: bytes) -> int | None:
        """That of a row, None of a draw beyond those that are asked for."""
        try:
            row = json.loads(line)
            number, draw = row["number"], row["draw"]
            known = type(number) is type(draw) is int and number >= 0 and draw >= 0
            if not known or row["prompt"] != self.sources[number].prompt:
                raise self._other(where)
            if row["made_by"] != self.made:
                raise DataError(
                    f"{where}: written by another run, or with other settings: name another --out, "
                    "or remove this one"
                )
        except (ValueError, KeyError, TypeError, IndexError):
            raise self._other(where) from None
        return number * self.draws + draw if draw < self.draws else None

    def _other(self, where: str) -> DataError:
        return DataError(
            f"{where}: no text of these prompts: name another --out, or remove this one"
        )

    def add(self, place: int, written: Written) -> None:
        """Appends the text of a place: its prompt's number times `draws`, and that of the draw."""
        number, draw = divmod(place, self.draws)
        row: dict[str, Any] = {
            "number": number, "draw": draw, "prompt": self.sources[number].prompt,
            "text": written.text, "finish_reason": written.finish, "made_by": self.made,
        }  # fmt: skip
        if written.score is not None:
            row["score"] = written.score
        with writing(self.path):
            self.file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            self.file.flush()
        self.done.add(place)
