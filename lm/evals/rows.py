"""Prompts of a file, and the rows of what is written after them, in another.

Rows are appended as they come, so that what was interrupted goes on: a text that is there is not
written again.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lm.core.errors import DataError
from lm.core.paths import writing
from lm.data.tasks.rows import Problem, jsonl, lines
from lm.evals.writing import Written
from lm.text.interface import unpaired


@dataclasses.dataclass(frozen=True)
class Source:
    """A prompt, and where it stands."""

    where: str
    prompt: str


def read_sources(path: Path) -> list[Source]:
    """Rows of `prompt` of JSONL, or lines of text, perhaps gzipped; blank lines are none.

    Raises:
      DataError: a line that is none of these, or no prompt at all.
    """
    found = []
    if path.name.removesuffix(".gz").endswith(".jsonl"):
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


class Rows:
    """A file of `draws` texts of each prompt, in any order.

    Raises:
      DataError: it holds a row that is not of these prompts.
      ConfigError: it cannot be written.
    """

    def __init__(self, path: Path, sources: Sequence[Source], draws: int):
        self.path, self.sources, self.draws = path, sources, draws
        with writing(path):
            path.touch()
            whole = path.read_bytes()
            kept = whole[: whole.rfind(b"\n") + 1]
            if kept != whole:  # its last row was cut off
                path.write_bytes(kept)
        self.done = set(self._places())

    def _places(self) -> Iterator[int]:
        for row in jsonl(self.path):
            values = {} if isinstance(row, Problem) else row.values
            number, draw = values.get("number", -1), values.get("draw", -1)
            known = type(number) is type(draw) is int and 0 <= number < len(self.sources)
            if not known or draw < 0 or values.get("prompt") != self.sources[number].prompt:
                raise DataError(
                    f"{row.where}: no text of these prompts: name another --out, or remove this one"
                )
            if draw < self.draws:
                yield number * self.draws + draw

    def add(self, place: int, written: Written) -> None:
        """Appends the text of a place: its prompt's number times `draws`, and that of the draw."""
        number, draw = divmod(place, self.draws)
        row: dict[str, Any] = {
            "number": number, "draw": draw, "prompt": self.sources[number].prompt,
            "text": written.text, "finish_reason": written.finish,
        }  # fmt: skip
        if written.score is not None:
            row["score"] = written.score
        with writing(self.path), self.path.open("ab") as file:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self.done.add(place)
