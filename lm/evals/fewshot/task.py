"""A task of in-context evaluation: where its rows are, how one is written, how it is asked."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lm.core.errors import DataError
from lm.data.tasks import rows as files
from lm.data.tasks.rows import Problem, Row
from lm.decode.beam import SEARCH
from lm.evals.incontext import Item, Prompt, Style, drawn, fit
from lm.evals.options import ChooseName, Verify
from lm.evals.protocols import Choose, Predict, Program, Write
from lm.text.tokenizer import Tokenizer

Protocol = Choose | ChooseName | Predict | Program | Verify | Write
Values = Mapping[str, Any]
READERS = {"jsonl": files.jsonl, "tsv": files.tsv, "csv": files.quoted_csv}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A task as data. Names of files are below the root and without `.gz`: the first there is."""

    name: str
    item: Callable[[Values], Item]  # a row as it is written
    files: tuple[str, ...]
    shots: int  # K of "few" in the paper
    protocol: Protocol
    rows: Callable[[Path], Iterable[Row | Problem]] | None = None  # None: as the name ends
    style: Style = Style()
    examples: tuple[str, ...] = ()  # files to draw examples from; (): the other items
    shows: Callable[[Item], bool] | None = None  # items that may be examples; None: all
    alone: Callable[[Values], Item] | None = None  # a row without examples and description
    made: Callable[[], list[Item]] | None = None  # where there is no file
    whole: int | None = None  # items of the published set that the paper measured on
    remark: str = ""  # what is not as in the paper
    needs: Callable[[], object] | None = None  # raises ConfigError where a package is missing
    version: int = 1  # raised where an outcome is made otherwise than before

    def read(self, root: Path) -> "TaskItems":
        """All items of the task.

        Raises:
          DataError: no file, or a malformed row, by file and line.
        """
        path = first_of(root, self.files)
        if path is None:
            if self.made is None:
                raise DataError(
                    f"no file of {self.name} in {root}: looked for {', '.join(self.files)}, also "
                    ".gz; leave the task out with --tasks, or name another --root"
                )
            made = tuple(self.made())
            return TaskItems(self, made, made, (), generated=True)
        pool = first_of(root, self.examples)
        pool = None if pool == path else pool  # an item is no example of itself
        items = self._items(path, self.item)
        return TaskItems(
            task=self,
            items=items,
            alone=self._items(path, self.alone) if self.alone else items,
            pool=self._items(pool, self.item) if pool else (),
        )

    def _items(self, path: Path, written: Callable[[Values], Item]) -> tuple[Item, ...]:
        suffix = path.name.removesuffix(".gz").rpartition(".")[2]
        found = []
        for row in (self.rows or READERS[suffix])(path):
            if not isinstance(row, Row):
                raise DataError(f"{row}; mend the row, or leave the task out with --tasks")
            try:
                item = written(row.values)
            except Passed:
                continue
            except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
                raise DataError(
                    f"{row.where}: not a row of {self.name} ({error!r}); mend it, or leave the "
                    "task out with --tasks"
                ) from None
            found.append(dataclasses.replace(item, id=item.id or row.name))
        if not found:
            raise DataError(f"no rows in {path}")
        return tuple(found)


class Passed(Exception):
    """Of a row that the set's own evaluation does not count either."""


@dataclasses.dataclass(frozen=True)
class TaskItems:
    """A task with its rows read."""

    task: Task
    items: tuple[Item, ...]
    alone: tuple[Item, ...]  # the same, written to stand without examples
    pool: tuple[Item, ...]  # what examples are drawn from; (): the other items
    generated: bool = False

    def chosen(self, limit: int | None) -> list[int]:
        """Numbers of the items to ask: all, or some drawn by chance, always the same.

        A smaller limit takes a part of what a larger one takes.
        """
        count = len(self.items)
        if limit is None or limit >= count:
            return list(range(count))
        return sorted(np.random.default_rng(0).permutation(count)[:limit].tolist())

    def prompt(
        self, number: int, shots: int, seed: int, tokenizer: Tokenizer, length: int
    ) -> Prompt | None:
        """Item `number` behind examples of its own draw; None: it is longer than the context."""
        pool, protocol = self.pool or self.items, self.task.protocol
        group, shows = self.items[number].group, self.task.shows
        if group and not self.pool:  # nothing that is said of the same passage
            pool = tuple(item for item in self.items if item.group != group)
        itself = pool is self.items
        if shows is not None:
            others = (item for n, item in enumerate(pool) if not itself or n != number)
            pool, itself = tuple(item for item in others if shows(item)), False
        places = drawn(shots, len(pool), seed=seed, number=number, itself=itself)
        style = self.task.style
        if self.task.alone and not shots:
            style = dataclasses.replace(style, description="")
        prompt = fit(
            (self.items if shots else self.alone)[number],
            [pool[place] for place in places],
            style,
            tokenizer,
            length=length,
            answer=protocol.tokens if isinstance(protocol, Write | Program) else None,
        )
        return prompt and dataclasses.replace(prompt, number=number)

    @cached_property
    def digest(self) -> str:
        """Of all that outcomes depend on but the model, the seed and the number of examples."""
        told: tuple[Any, ...] = (self.items, self.alone, self.pool)
        told += (self.task.protocol, self.task.style)
        if self.task.version > 1:
            told += (self.task.version,)
        if isinstance(self.task.protocol, Write) and self.task.protocol.beams > 1:
            told += (SEARCH,)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:12]


def first_of(root: Path, names: tuple[str, ...]) -> Path | None:
    """The first of these files that is there, or a folder that stands for one."""
    paths = (root / (name + end) for name in names for end in ("", ".gz"))
    return next((path for path in paths if path.exists()), None)
