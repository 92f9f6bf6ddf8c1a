"""Which task a run is given, and where its files are."""

import dataclasses
import difflib
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lm.core.errors import ConfigError, DataError
from lm.core.paths import at_home
from lm.data.tasks.forms import COLUMNS, Form
from lm.data.tasks.published import PUBLISHED
from lm.metrics.entities import parted
from lm.metrics.score import metric

Part = Literal["train", "valid", "test"]
OnBad = Literal["stop", "drop"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A published task by its name, or one's own data as `name="classification"` or another kind.

    Own data need no code: a `.jsonl` whose columns are called as the fields of the records are, or
    as `columns` says (`("text=review", "label=stars")`). A format of one's own is a subclass, in a
    module of lm where a run is to be made of it, whose `form` says how a row is restated.
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
    metrics: tuple[str, ...] = ()  # instead of the task's; f1 is of the second of two labels
    on_bad: OnBad = "stop"  # rows that are malformed

    def __post_init__(self) -> None:
        if not 0 < self.valid_fraction < 1:
            raise ConfigError(f"valid_fraction {self.valid_fraction} must be above 0 and below 1")
        for name, value in (("limit", self.limit), ("valid_limit", self.valid_limit)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} {value} must be 1 or more, or None for all")
        for binding in self.columns:
            field, equals, column = binding.partition("=")
            if not (field and equals and column):
                raise ConfigError(f"data.columns: cannot read {binding!r}: write field=column")

    def form(self) -> Form:
        """What the task is. Raises ConfigError where nothing of that name is known."""
        if self.name not in PUBLISHED:
            near = difflib.get_close_matches(self.name, PUBLISHED, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"unknown task {self.name!r}; {hint}known: {', '.join(PUBLISHED)}")
        return PUBLISHED[self.name]


def resolved(config: TaskConfig) -> Form:
    """The task's form with the config's columns, labels and metrics in it. A published task reads
    rows that are laid out as one's own data as well, where its own columns are absent.

    Raises:
      ConfigError: no such task, field or metric.
    """
    form = config.form()
    plain = {"id": ("id",), **COLUMNS[form.kind]}
    columns = {name: tuple(dict.fromkeys(of + plain[name])) for name, of in form.columns.items()}
    places = dict(zip(("words", "tags"), form.places, strict=True))
    known = tuple(plain)
    for binding in config.columns:
        field, _, column = binding.partition("=")
        if field not in known:
            raise ConfigError(f"data.columns: unknown field {field!r}; known: {', '.join(known)}")
        if field in places and column.removeprefix("-").isdecimal():
            places[field] = int(column)
        else:
            columns[field] = (column,)
    for name in config.metrics:
        metric(name)
    return dataclasses.replace(
        form,
        columns=columns,
        places=(places["words"], places["tags"]),
        labels=config.labels or form.labels,
        metrics=config.metrics or form.metrics,
    )


def check_metrics(metrics: Sequence[str], labels: Sequence[str]) -> None:
    """Whether the metrics can be taken of these labels.

    Raises:
      ConfigError: F1 of other than two classes. DataError: tags that spell no entities.
    """
    if "f1" in metrics and len(labels) != 2:
        raise ConfigError(
            f"f1 is of the second of two labels, and here are {len(labels)} "
            f"({', '.join(labels) or 'none'}): --set data.metrics=macro_f1,accuracy, say"
        )
    if "entity_f1" in metrics:
        try:
            for label in labels:
                parted(label)
        except DataError as error:
            raise DataError(
                f"{error}: give the tags their names, in the order of their numbers, as "
                "--set data.labels=O,B-PER,I-PER does, or --set data.metrics=tag_accuracy"
            ) from None


def located(config: TaskConfig, form: Form) -> dict[Part, tuple[Path, ...]]:
    """The files of each part that is there. Raises DataError where there are none at all."""
    root = at_home(config.root)
    names: dict[Part, tuple[str, ...]] = {
        "train": form.train, "valid": form.valid, "test": form.test,
    }  # fmt: skip
    given: dict[Part, str | None] = {
        "train": config.train, "valid": config.valid, "test": config.test,
    }  # fmt: skip
    found: dict[Part, tuple[Path, ...]] = {}
    for folder in (root, *(root / name for name in form.folders)):
        for part in ("train", "valid"):
            if paths := _first(folder, names[part]):
                found[part] = paths
        if found:
            break
    if found:
        test = _first(folder, names["test"])
        found |= {"test": test} if test else {}
    for part, spec in given.items():
        if spec is not None:
            found[part] = _named(root, spec, part)
    if not found:
        raise absent(config, form)
    return found


def absent(config: TaskConfig, form: Form) -> DataError:
    """The error that there is nothing to train on or to hold out."""
    return DataError(
        f"no files of {config.name} in {config.root or '.'!r}: looked for "
        f"{', '.join(dict.fromkeys(form.train + form.valid))}, also .gz, there and in "
        f"{', '.join(form.folders) or 'no other folder'}; set data.train=FILE"
    )


def _first(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The file of the first name that there is, or all files of the first pattern."""
    for name in (name + end for name in names for end in ("", ".gz")):
        paths = folder.glob(name) if "*" in name else [folder / name]
        if found := tuple(sorted((path for path in paths if path.is_file()), key=numbered)):
            return found
    return ()


def numbered(path: Path) -> tuple[str, int, str]:
    """The order of a folder's files: 2.txt before 10.txt."""
    return str(path.parent), len(path.name), path.name


def _named(root: Path, spec: str, part: str) -> tuple[Path, ...]:
    found: list[Path] = []
    for name in [spec] if (root / spec).is_file() else spec.split(","):
        path = root / at_home(name.strip())
        some = [path] if path.is_file() else [Path(p) for p in sorted(glob.glob(str(path)))]
        if not some:
            raise DataError(f"data.{part}={spec}: no file {path}")
        found += some
    return tuple(found)
