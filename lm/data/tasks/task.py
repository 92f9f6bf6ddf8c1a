"""The records of a task: which to train on, which to hold out, and what is wrong with the rest."""

import dataclasses
import functools
import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from lm.core.errors import DataError
from lm.data.records import Choice, Classification, Record, Regression, Span, Tagging
from lm.data.tasks import race
from lm.data.tasks import rows as files
from lm.data.tasks.config import Part, TaskConfig, absent, located, resolved
from lm.data.tasks.forms import (
    HUB_NO_LABEL,
    NO_LABEL,
    Form,
    Item,
    Kind,
    Malformed,
    item,
    label_name,
)
from lm.data.tasks.rows import Problem, Row

SHOWN = 5  # problems, or files, told one by one


def read(config: TaskConfig) -> "Task":
    """The task, its files found and not yet read.

    Raises:
      ConfigError: no such task, field or metric.
      DataError: no such files.
    """
    form = resolved(config)
    return Task(config, form, located(config, form))


@dataclasses.dataclass(frozen=True)
class Task:
    """Records to train on, to hold out and to test on, read when they are first asked for."""

    config: TaskConfig
    form: Form
    files: dict[Part, tuple[Path, ...]]

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def kind(self) -> Kind:
        return self.form.kind

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names in lm.metrics, the main one first."""
        return self.form.metrics

    @property
    def symmetric(self) -> bool:
        """The two texts of a pair may change places."""
        return self.form.symmetric

    @functools.cached_property
    def pair(self) -> bool:
        """Records are pairs of texts.

        Raises:
          DataError: some are and some are not.
        """
        texts = [r for r in self.train if isinstance(r, (Classification, Regression))]
        paired = sum(record.pair is not None for record in texts)
        if paired not in (0, len(texts)):
            raise DataError(f"{paired} of {len(texts)} training records have a pair, all must")
        return paired > 0

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of classes or tags by index; () for the other kinds.

        Raises:
          DataError: they are those of the training rows, and there are none.
        """
        if not self.form.learned_labels:
            return self.form.labels
        field = "label" if self.kind == "classification" else "tags"
        names: set[str] = set()
        for row in self._rows(self.files[self._source]):
            try:
                value = self.form.fields(row.values).get(field) if isinstance(row, Row) else None
                values = value if isinstance(value, list) else [value]
                names |= {label_name(value) for value in values if value not in NO_LABEL}
            except Malformed:  # told when the records are read
                continue
        counted = {name for name in names if name.isascii() and name.isdigit()}
        first = "0" in counted or not counted  # else -1 may be the class beside 1
        if self.kind == "classification" and first and names - counted == {HUB_NO_LABEL}:
            names = counted
        numbers = names == counted
        return tuple(sorted(names, key=int if numbers else lambda name: (name != "O", name)))

    @functools.cached_property
    def train(self) -> list[Record]:
        """Those to train on, in the order of the file.

        Raises:
          DataError: malformed rows, a duplicate id, or no records.
        """
        return _limited(self._split("train"), self.config.limit)

    @functools.cached_property
    def valid(self) -> list[Record]:
        """Those held out: of their own file, or texts of the training file chosen by their hash."""
        return _limited(self._split("valid"), self.config.valid_limit)

    @functools.cached_property
    def test(self) -> list[Record]:
        """Those of the test file, labelled or not. Raises DataError where there is none."""
        if "test" not in self.files:
            raise DataError(f"no test file of {self.name}; set data.test=FILE")
        return [item.record for item in self._items("test", labelled=False)]

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of what is trained on and held out, wherever the files lie."""
        digest = hashlib.sha256(repr((self.kind, self.labels, self.form.symmetric)).encode())
        for records in (self.train, self.valid):
            digest.update(f"{len(records)}\n".encode())
            for record in records:
                digest.update(repr(record).encode())
        return digest.hexdigest()

    def references(self, part: Part) -> list:
        """What `lm.metrics.score` compares predictions with: a class, a number, a choice, the
        texts of the answers, the names of the tags."""
        return [reference(record, self.labels) for record in self.records(part)]

    def records(self, part: Part) -> list[Record]:
        if part == "test":
            return self.test
        return self.train if part == "train" else self.valid

    def check_columns(self, part: Part, bindings: Iterable[str]) -> None:
        """Raises DataError where no row of a part has a column that one of these `field=column`
        names: of a field that may be absent, such as a label, every row would do without it."""
        part = part if part in self.files else self._source
        rows = (row for row in self._rows(self.files[part]) if isinstance(row, Row))
        there = dict.fromkeys(name for row in rows for name in row.values)
        for binding in bindings:
            field, _, column = binding.partition("=")
            if self.form.names[field] == (column,) and column not in there:  # else it is a place
                raise DataError(
                    f"data.columns: {binding}, and no row of {self._told(part)} has a column "
                    f"{column!r}: name one of {', '.join(there)}"
                )

    def _split(self, part: Literal["train", "valid"]) -> list[Record]:
        if {"train", "valid"} <= self.files.keys():
            return [item.record for item in self._items(part)]
        held = self._held
        return [item.record for item in self._whole if (item.group in held) == (part == "valid")]

    @property
    def _source(self) -> Literal["train", "valid"]:
        """The part whose file is trained on. Raises DataError where there is none."""
        if not self.files.keys() & {"train", "valid"}:
            raise absent(self.config, self.form)
        return "train" if "train" in self.files else "valid"

    @functools.cached_property
    def _whole(self) -> list[Item]:
        return self._items(self._source)

    @functools.cached_property
    def _held(self) -> set[str]:
        """The texts held out of the only file there is."""
        groups = sorted({item.group for item in self._whole}, key=lambda group: position(group))
        if len(groups) < 2:
            raise DataError(
                f"one text in {self._told(self._source)}: none can be held out; set data.valid=FILE"
            )
        count = round(len(groups) * self.config.valid_fraction)
        return set(groups[: min(max(count, 1), len(groups) - 1)])

    def _told(self, part: Part) -> str:
        paths = self.files[part]
        more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
        return ", ".join(map(str, paths[:SHOWN])) + more

    def _rows(self, paths: Sequence[Path]) -> Iterator[Row | Problem]:
        """Those of the files, one after another. Rows of files of one name are told apart."""
        counts: Counter[str] = Counter()
        for path in paths:
            stem = files.stem(path)
            again, counts[stem] = counts[stem], counts[stem] + 1
            for row in self._file_rows(path):
                if again and isinstance(row, Row):
                    row = dataclasses.replace(row, name=f"{row.name}@{again}")
                yield row

    def _file_rows(self, path: Path) -> Iterator[Row | Problem]:
        suffix = path.name.removesuffix(".gz").rpartition(".")[2]
        if suffix == "jsonl":
            return files.jsonl(path)
        if suffix == "tsv":
            return files.tsv(path, self.form.header)
        if suffix == "csv":
            return files.quoted_csv(path)
        if self.kind == "span":
            return files.squad(path)
        if self.kind == "choice" and suffix == "txt":
            return race.questions(path)
        if self.kind == "tagging":
            return files.conll(path, *self.form.places)
        raise DataError(f"{path}: a {self.kind} task reads .jsonl, .tsv and .csv, also .gz")

    def _items(self, part: Part, labelled: bool = True) -> list[Item]:
        """Every record of a part's files. A malformed row stops, or is dropped and counted."""
        items: list[Item] = []
        problems: list[Problem] = []
        left_out = 0
        seen: dict[str, str] = {}
        for row in self._rows(self.files[part]):
            if isinstance(row, Problem):
                problems.append(row)
                continue
            try:
                label = self.form.fields(row.values).get("label") if self.form.left_out else None
                if label in self.form.left_out:
                    left_out += 1
                    continue
                found = item(self.form, self.labels, row.name, row.values, labelled)
            except Malformed as error:
                problems.append(Problem(row.where, str(error)))
                continue
            name = found.record.id
            if name in seen:
                text = f"id {name!r} already stands at {seen[name]}"
                problems.append(Problem(row.where, text))
                continue
            seen[name] = row.where
            items.append(found)
        if problems and self.config.on_bad == "stop":
            more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            told = "; ".join(map(str, problems[:SHOWN]))
            raise DataError(f"{told}{more}; mend them, or leave them out with data.on_bad=drop")
        for problem in problems:
            if problem.last:
                raise DataError(f"{problem}, nor can the rows behind it be read: mend it")
        if problems:
            print(
                f"warning: {self.name}, {part}: {len(problems)} malformed rows of "
                f"{len(problems) + len(items)} dropped, the first: {problems[0]}",
                file=sys.stderr,
            )
        if left_out:
            print(f"{self.name}, {part}: {left_out} rows without an agreed label left out")
        if not items:
            raise DataError(f"no records in {self._told(part)}")
        return items


def position(text: str) -> float:
    """Where a text falls in [0, 1), the same in every file and on every machine."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:13], 16) / 16**13


def _limited(records: list[Record], limit: int | None) -> list[Record]:
    if limit is None or limit >= len(records):
        return records
    order = sorted(range(len(records)), key=lambda k: position(f"limit\n{records[k].id}"))
    return [records[k] for k in sorted(order[:limit])]


def reference(record: Record, labels: tuple[str, ...]):
    """A record's right answer. None where it has none to compare with."""
    if isinstance(record, Span):
        return None if record.answers is None else tuple(answer.text for answer in record.answers)
    if isinstance(record, Tagging):
        return None if record.label is None else tuple(labels[tag] for tag in record.label)
    assert isinstance(record, (Classification, Regression, Choice))
    return record.label
