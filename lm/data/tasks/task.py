"""A task that a run is given: which files, which records to train on, which to hold out."""

import dataclasses
import difflib
import functools
import glob
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from lm.core.errors import ConfigError, DataError
from lm.data.records import Choice, Classification, Record, Regression, Span, Tagging
from lm.data.tasks import rows as files
from lm.data.tasks.forms import COLUMNS, NO_LABEL, Form, Item, Kind, Malformed, item, label_name
from lm.data.tasks.published import PUBLISHED
from lm.data.tasks.rows import Problem, Row
from lm.metrics.score import metric

Part = Literal["train", "valid", "test"]
SHOWN = 5  # problems told one by one


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A published task by its name, or one's own data as `name="classification"` or another kind.

    Own data need no code: a `.jsonl` whose columns are called as the fields of the records are, or
    as `columns` says (`("text=review", "label=stars")`). A format of one's own is a subclass whose
    `form` says how a row is restated.
    """

    name: str = "sst2"  # of PUBLISHED
    root: str = ""  # the folder of task data: the task's own, or one with the task's folder in it
    train: str | None = None  # a file below root, or several or globs with commas; None: by name
    valid: str | None = None  # the same; where there is none, a part of the training file
    test: str | None = None
    valid_fraction: float = 0.1  # of texts, where they are held out of the training file
    limit: int | None = None  # training records at most: a smaller set is part of a larger one
    valid_limit: int | None = None
    columns: tuple[str, ...] = ()  # "field=column", in CoNLL files "words=0" and "tags=-1"
    labels: tuple[str, ...] = ()  # of own data; (): those of the training rows, sorted
    metrics: tuple[str, ...] = ()  # instead of the task's
    on_bad: Literal["stop", "drop"] = "stop"  # rows that are malformed

    def __post_init__(self) -> None:
        if not 0 < self.valid_fraction < 1:
            raise ConfigError(f"valid_fraction {self.valid_fraction} must be between 0 and 1")
        for name, value in (("limit", self.limit), ("valid_limit", self.valid_limit)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} {value} must be 1 or more, or None for all")
        for binding in self.columns:
            field, equals, column = binding.partition("=")
            if not (field and equals and column):
                raise ConfigError(f"columns: cannot read {binding!r}: write field=column")

    def form(self) -> Form:
        """What the task is. Raises ConfigError where nothing of that name is known."""
        if self.name not in PUBLISHED:
            near = difflib.get_close_matches(self.name, PUBLISHED, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"unknown task {self.name!r}; {hint}known: {', '.join(PUBLISHED)}")
        return PUBLISHED[self.name]


def read(config: TaskConfig) -> "Task":
    """The task, its files found and not yet read.

    Raises:
      ConfigError: no such task, field or metric.
      DataError: no such files.
    """
    form = config.form()
    columns, places = dict(form.columns), dict(zip(("words", "tags"), form.places, strict=True))
    known = ("id", *COLUMNS[form.kind])
    for binding in config.columns:
        field, _, column = binding.partition("=")
        if field not in known:
            raise ConfigError(f"task.columns: unknown field {field!r}; known: {', '.join(known)}")
        if field in places and column.removeprefix("-").isdecimal():
            places[field] = int(column)
        else:
            columns[field] = (column,)
    for name in config.metrics:
        metric(name)
    form = dataclasses.replace(
        form,
        columns=columns,
        places=(places["words"], places["tags"]),
        labels=config.labels or form.labels,
        metrics=config.metrics or form.metrics,
    )
    return Task(config, form, located(config, form))


def located(config: TaskConfig, form: Form) -> dict[Part, tuple[Path, ...]]:
    """The files of each part that is there."""
    root = Path(config.root).expanduser()
    names: dict[Part, tuple[str, ...]] = {
        "train": form.train, "valid": form.valid, "test": form.test,
    }  # fmt: skip
    given: dict[Part, str | None] = {
        "train": config.train, "valid": config.valid, "test": config.test,
    }  # fmt: skip
    found: dict[Part, tuple[Path, ...]] = {}
    for folder in (root, *(root / name for name in form.folders)):
        for part in ("train", "valid"):
            path = _first(folder, names[part])
            if path is not None:
                found[part] = (path,)
        if found:
            break
    if found:
        test = _first(folder, names["test"])
        found |= {"test": (test,)} if test else {}
    for part, spec in given.items():
        if spec is not None:
            found[part] = _named(root, spec, part)
    if not found.keys() & {"train", "valid"}:
        raise DataError(
            f"no files of {config.name} in {config.root or '.'!r}: looked for "
            f"{', '.join(dict.fromkeys(form.train + form.valid))}, also .gz, there and in "
            f"{', '.join(form.folders) or 'no other folder'}; set task.train=FILE"
        )
    return found


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    paths = (folder / (name + end) for name in names for end in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def _named(root: Path, spec: str, part: str) -> tuple[Path, ...]:
    found: list[Path] = []
    for name in [spec] if (root / spec).is_file() else spec.split(","):
        path = root / Path(name.strip()).expanduser()
        some = [path] if path.is_file() else [Path(p) for p in sorted(glob.glob(str(path)))]
        if not some:
            raise DataError(f"task.{part}={spec}: no file {path}")
        found += some
    return tuple(found)


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
        """Names of classes or tags by index; () for the other kinds."""
        if self.form.labels or self.kind not in ("classification", "tagging"):
            return self.form.labels
        field = "label" if self.kind == "classification" else "tags"
        names: set[str] = set()
        for row in self._rows(self.files.get("train") or self.files["valid"]):
            value = self.form.fields(row.values).get(field) if isinstance(row, Row) else None
            values = value if isinstance(value, list) else [value]
            names |= {label_name(value) for value in values if value not in NO_LABEL}
        numbers = all(name.isascii() and name.isdigit() for name in names)
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
            raise DataError(f"no test file of {self.name}; set task.test=FILE")
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
        return {
            "train": lambda: self.train,
            "valid": lambda: self.valid,
            "test": lambda: self.test,
        }[part]()

    def _split(self, part: Literal["train", "valid"]) -> list[Record]:
        if {"train", "valid"} <= self.files.keys():
            return [item.record for item in self._items(part)]
        held = self._held
        return [item.record for item in self._whole if (item.group in held) == (part == "valid")]

    @functools.cached_property
    def _whole(self) -> list[Item]:
        return self._items("train" if "train" in self.files else "valid")

    @functools.cached_property
    def _held(self) -> set[str]:
        """The texts held out of the only file there is."""
        groups = sorted({item.group for item in self._whole}, key=lambda group: position(group))
        if len(groups) < 2:
            raise DataError(
                f"one text in {self._told('train')}: none can be held out; set task.valid=FILE"
            )
        count = round(len(groups) * self.config.valid_fraction)
        return set(groups[: min(max(count, 1), len(groups) - 1)])

    def _told(self, part: Part) -> str:
        return ", ".join(map(str, self.files.get(part) or self.files["valid"]))

    def _rows(self, paths: Sequence[Path]) -> Iterator[Row | Problem]:
        for path in paths:
            suffix = path.name.removesuffix(".gz").rpartition(".")[2]
            if suffix == "jsonl":
                yield from files.jsonl(path)
            elif suffix == "tsv":
                yield from files.tsv(path, self.form.header)
            elif suffix == "csv":
                yield from files.quoted_csv(path)
            elif self.kind == "span":
                yield from files.squad(path)
            elif self.kind == "tagging":
                yield from files.conll(path, *self.form.places)
            else:
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
            raise DataError(f"{told}{more}; mend them, or leave them out with task.on_bad=drop")
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
