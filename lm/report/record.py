"""A run directory as the report reads it: metrics, bindings, samples and final figures.

A run that is still going, or was killed, has to be readable too, so only `config.gin` and
`metrics.jsonl` must be there.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lm.core.errors import DataError
from lm.report.time_spent import processes

TABLES = ("reference", "mixture")  # of the summary: not figures
TIMES = ("step", "tokens", "seconds")  # what a row is logged at; the rest is what was measured
OF_STEPS = ("loss", "tokens_per_second", "mfu")  # of training, which no summary has
WHOLE = "whole_"  # begins what is measured once, at the end: over all held-out text, no estimate


@dataclass(frozen=True)
class Record:
    """What one run left behind. `rows` are in the order of their steps."""

    name: str
    rows: list[dict[str, Any]]
    bindings: dict[str, str]  # dotted name -> literal, as in `config.gin`
    notes: list[str]  # versions, commit and devices: the comments of `config.gin`
    samples: dict[int, str] = field(default_factory=dict)  # by step
    gallery: list[dict[str, Any]] = field(default_factory=list)  # lm/report/gallery.py
    summary: dict[str, Any] = field(default_factory=dict)  # empty until the run ends
    processes: list[dict[str, Any]] = field(default_factory=list)  # of goodput.json
    changes: list[tuple[int, str, str, str]] = field(default_factory=list)
    """Bindings that were changed on the way: step, name, before and since; `bindings` has the last.
    """
    unreadable: int = 0  # lines of metrics.jsonl, the last one not counted

    @property
    def kind(self) -> str:
        """The name of the experiment's class, such as `Pretrain`."""
        return self.bindings.get("class", "").strip("'\"").rpartition(".")[2]

    def history(self) -> dict[str, str]:
        """The bindings, and what they were before they were changed."""
        told = dict(self.bindings)
        for step, name, before, _ in reversed(self.changes):
            told[name] = f"{before} to step {step:,}, then {told.get(name, 'None')}"
        return told

    def metrics(self) -> list[str]:
        """Every name that was measured, in the order it first appears."""
        names = dict.fromkeys(name for row in self.rows for name in row if name not in TIMES)
        return [name for name in names if any(is_number(row.get(name)) for row in self.rows)]

    def curve(self, name: str, over: str = "step") -> tuple[list[float], list[float]]:
        """`(x, y)` of a metric; a value that is not finite is a gap."""
        points = [(row[over], row[name]) for row in self.rows if name in row and over in row]
        points = [point for point in points if is_number(point[0]) and is_number(point[1])]
        return [float(x) for x, _ in points], [float(y) for _, y in points]

    def final(self) -> dict[str, Any]:
        """The summary, and of the last steps what it has not; while there is none, the latest."""
        latest = self.latest()
        if not self.summary:
            return latest
        ended = {name: latest[name] for name in OF_STEPS if name in latest}
        return {n: v for n, v in (ended | self.summary).items() if n not in TABLES}

    def latest(self) -> dict[str, Any]:
        """The last value of every metric, but not what was measured over all held-out text at an
        earlier end of the run."""
        whole = self.whole()
        values = {name: row[name] for row in self.rows for name in TIMES if name in row}
        for name in self.metrics():
            if not name.startswith(WHOLE) or name.removeprefix(WHOLE) in whole:
                values[name] = self.curve(name)[1][-1]
        return values

    def whole(self) -> dict[str, Any]:
        """What was measured over all held-out text after the last step, by its estimate's name."""
        return {
            name.removeprefix(WHOLE): value
            for row in self.rows
            if row["step"] == self.rows[-1]["step"]
            for name, value in row.items()
            if name.startswith(WHOLE) and is_number(value)
        }

    def mixture(self) -> list[dict[str, Any]]:
        """What the run read of each text: `source`, `tokens`, `weight` and `epochs`; and
        `valid_loss`, where a part of each is held out."""
        rows = self.summary.get("mixture") or []
        return [row for row in rows if isinstance(row, dict) and "source" in row]

    def references(self) -> list[dict[str, Any]]:
        """Published figures to stand beside ours: `name` of a metric, `value`, `source`."""
        given = self.summary.get("reference") or []
        return [r for r in given if isinstance(r, dict) and is_number(r.get("value"))]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_run(run: Path) -> Record:
    """Reads a run directory.

    Raises:
      DataError: the directory, its metrics or its bindings are not there.
    """
    if not run.is_dir():
        raise DataError(f"{run} is not a run directory: no such folder")
    rows, unreadable = _rows(_text(run, "metrics.jsonl"))
    bindings, notes = _bindings(_text(run, "config.gin"))
    return Record(
        name=run.name or run.resolve().name,
        rows=rows,
        bindings=bindings,
        notes=notes,
        samples=_samples(run / "samples"),
        gallery=_objects(run / "gallery.jsonl"),
        summary=_summary(run / "summary.json"),
        processes=processes(run / "goodput.json"),
        changes=_changes(run / "changes.jsonl"),
        unreadable=unreadable,
    )


def _text(run: Path, name: str) -> str:
    path = run / name
    if not path.exists():
        raise DataError(f"{path} is missing: {run} is not a run directory, or its run never began")
    return path.read_bytes().decode(errors="replace")


def _rows(text: str) -> tuple[list[dict[str, Any]], int]:
    """Rows of a metrics file, and how many lines could not be read before the last.

    The last line may be cut short: the run was killed, or is writing it. A step smaller than the
    one before means that the run was resumed there: what had been logged from there on is dropped.
    """
    rows: list[dict[str, Any]] = []
    bad: list[int] = []
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or not is_number(row.get("step")):
            bad.append(number)
            continue
        if rows and rows[-1]["step"] > row["step"]:
            rows = [earlier for earlier in rows if earlier["step"] < row["step"]]
        rows.append(row)
    return rows, len([number for number in bad if number < len(lines)])


def _bindings(text: str) -> tuple[dict[str, str], list[str]]:
    lines = [line.strip() for line in text.splitlines()]
    notes = [line.lstrip("# ").rstrip() for line in lines if line.startswith("#")]
    split = [line.partition("=") for line in lines if line and not line.startswith("#")]
    bindings = {name.strip(): value.strip() for name, equals, value in split if equals}
    return bindings, [note for note in notes if note]


def _changes(path: Path) -> list[tuple[int, str, str, str]]:
    return [
        (row["step"], name, str(pair[0]), str(pair[1]))
        for row in _objects(path)
        if isinstance(row.get("step"), int) and isinstance(row.get("changed"), dict)
        for name, pair in row["changed"].items()
        if isinstance(pair, list) and len(pair) == 2
    ]


def _objects(path: Path) -> list[dict[str, Any]]:
    """The objects of a file, one a line; lines that are none are left out."""
    found = []
    for line in path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


def _samples(folder: Path) -> dict[int, str]:
    if not folder.is_dir():
        return {}
    found = [path for path in folder.iterdir() if path.suffix == ".txt" and path.stem.isdecimal()]
    return {
        int(path.stem): path.read_bytes().decode(errors="replace")
        for path in sorted(found, key=lambda path: int(path.stem))
    }


def _summary(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        summary = json.loads(path.read_bytes().decode(errors="replace"))
    except (ValueError, RecursionError):
        summary = None
    if not isinstance(summary, dict):
        raise DataError(f"{path} is not a JSON object: delete it and write the report again")
    return summary
