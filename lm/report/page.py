"""One self-contained HTML page for a run directory, and one that lays several runs over each other.

The page asks for nothing from outside. All that comes from a run is escaped: a sample may hold
anything.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lm.core.errors import DataError
from lm.report.curves import Curve, Level, draw, legend
from lm.report.figures import measured
from lm.report.gallery import gallery
from lm.report.groups import seeds_table
from lm.report.record import WHOLE, Record, is_number, read_run
from lm.report.style import CSS
from lm.report.text import escape, label, number, shown, table
from lm.report.time_spent import totals

AGAINST_TOKENS = ("Loss", "Validation bits per byte")  # a second scale on top
BASELINES = {"valid_bits_per_byte": {"trigram_bits_per_byte": "byte trigram"}}
TILES = (
    *("valid_bits_per_byte", "valid_loss", "valid_accuracy", "valid_reward", "valid_kl", "loss"),
    *("parameters", "step", "steps", "tokens", "tokens_per_second", "mfu", "seconds"),
)
MIXTURE = ("tokens", "weight", "epochs", "valid_loss")  # the last not of every run
SAMPLES_SHOWN = 12


def write_report(run: Path) -> Path:
    """Writes `report.html` of a run directory and returns where it is.

    Raises:
      DataError: `run` is not a run directory.
    """
    record = read_run(run)
    sections = [
        _tiles(record),
        _unfinished(record),
        section("Curves", _run_figures(record), wide=True),
        section("Gallery", gallery(record.gallery)),
        section("Samples", _samples(record.samples)),
        section("Final figures", _final_figures(record)),
        section("Where the time went", _time(record)),
        section("Training mixture", _mixture(record)),
        section("Configuration", _changes(record) + _bindings_table(record.bindings)),
        section("Versions and devices", _list(record.notes)),
    ]
    return write_page(run / "report.html", record.name, sections)


def compare(runs: Sequence[Path], out: Path) -> Path:
    """Writes one page of several runs: a figure a metric, their final figures, how they differ.

    Runs that differ by their seed alone also stand together, with mean and deviation.

    Raises:
      DataError: fewer than two runs, or one that is not a run directory.
    """
    if len(runs) < 2:
        raise DataError(f"a comparison needs two runs or more, not {len(runs)}")
    records = [read_run(run) for run in runs]
    names = _distinct_names(runs, records)
    sections = [
        *(_unfinished(record, name) for name, record in zip(names, records, strict=True)),
        section("Curves", legend(names) + _compared_figures(names, records), wide=True),
        section("Over seeds", seeds_table(records)),
        section("Final figures", _compared_finals(names, records)),
        section("Bindings that differ", _compared_bindings(names, records)),
    ]
    return write_page(out, f"{len(runs)} runs compared", sections)


# Figures


def _run_figures(record: Record) -> str:
    tokens = Curve("tokens", *_unequal(*record.curve("tokens")))
    figures = []
    for title, unit, names in measured([record]):
        curves = [Curve(label(name), *record.curve(name)) for name in names]
        levels = [
            Level(f"{source}: {number(value)}", value)
            for name in names
            for source, value in _beside(record, name)
        ]
        above = tokens if title in AGAINST_TOKENS else None
        figures.append(_figure(title, curves, unit, "steps", levels=levels, tokens=above))
    return "".join(figures) or "<p>Nothing has been logged yet.</p>"


def _beside(record: Record, name: str) -> list[tuple[str, float]]:
    """What a metric is compared with: baselines of the run itself, then published figures."""
    beside: list[tuple[str, float]] = []
    for key, source in BASELINES.get(name, {}).items():
        if is_number(record.summary.get(key)):
            beside.append((source, record.summary[key]))
    for reference in record.references():
        if reference.get("name") == name:
            beside.append((str(reference.get("source", "published")), reference["value"]))
    return beside


def _unequal(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """The points whose x is not the one before: a step may have a training and a validation row."""
    kept = [i for i in range(len(x)) if i == 0 or x[i] != x[i - 1]]
    return [x[i] for i in kept], [y[i] for i in kept]


def _compared_figures(names: Sequence[str], records: Sequence[Record]) -> str:
    over = "tokens" if all(record.curve("tokens", "tokens")[0] for record in records) else "step"
    figures = []
    for title, unit, names_of in measured(records):
        metrics = [name for name in names_of if not name.startswith(WHOLE)]  # one point: no curve
        for metric in metrics:
            curves = [
                Curve(name, *record.curve(metric, over), series=number)
                for number, (name, record) in enumerate(zip(names, records, strict=True))
                if metric in record.metrics()
            ]
            heading = label(metric).capitalize() if len(metrics) > 1 else title
            figures.append(_figure(heading, curves, unit, over.removesuffix("s") + "s"))
    return "".join(figures) or "<p>Nothing has been logged yet.</p>"


def _figure(
    title: str,
    curves: Sequence[Curve],
    unit: str,
    over: str,
    *,
    levels: Sequence[Level] = (),
    tokens: Curve | None = None,
) -> str:
    svg = draw(title, curves, xlabel=over, ylabel=unit, levels=levels, tokens=tokens)
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"


# Tables and text


def _tiles(record: Record) -> str:
    final = record.final()
    tiles = [
        f"<div><dt>{escape(label(name))}</dt><dd>{escape(shown(name, final[name]))}</dd></div>"
        for name in (str(final.get("metric")), *TILES)  # a task's own first
        if name in final
    ]
    return f'<dl class="tiles">{"".join(tiles)}</dl>' if tiles else ""


def _unfinished(record: Record, name: str = "This run") -> str:
    notes = []
    if not record.summary:
        notes.append(f"{name} has not ended: its figures are its latest.")
    if record.unreadable:
        notes.append(f"{name}: {record.unreadable} lines of metrics.jsonl could not be read.")
    return "".join(f'<p class="notice">{escape(note)}</p>' for note in notes)


def _final_figures(record: Record) -> str:
    final = record.final()
    published = [str(reference.get("name")) for reference in record.references()]
    rows = []
    for name in dict.fromkeys([*final, *published]):
        compared = _beside(record, name)
        beside = [f"{number(value)} ({source})" for source, value in compared]
        measured = is_number(final.get(name))
        gaps = [f"{final[name] - value:+.4g}" for _, value in compared if measured]
        rows.append([label(name), _value(final, name), "; ".join(beside), "; ".join(gaps)])
    made = table(["figure", "this run", "to compare with", "gap"], rows)
    return made + (_why_apart(final) if published else "")


def _why_apart(final: dict[str, Any]) -> str:
    """Why a gap to a published figure is no measure of the method."""
    size = f"{number(final['parameters'])} parameters" if "parameters" in final else "its own size"
    return (
        "<p>A published figure is of the model, the training text and the split that its source "
        f"names; this run has {escape(size)}, its own text and the rows that it held out.</p>"
    )


def _time(record: Record) -> str:
    """Seconds by what they were for, over all processes of the run, and the goodput."""
    if not record.processes:
        return ""
    spent = totals(record.processes)
    goodput = spent.pop("goodput")
    whole = sum(spent.values()) or 1.0
    rows = [[kind, number(seconds), f"{seconds / whole:.1%}"] for kind, seconds in spent.items()]
    rows.append([f"goodput, {len(record.processes)} processes", "", f"{goodput:.1%}"])
    return table(["what", "seconds", "share"], rows)


def _mixture(record: Record) -> str:
    """Table 2.2 of GPT-3 for this run."""
    texts = record.mixture()
    columns = [name for name in MIXTURE if any(name in row for row in texts)]
    rows = [[str(row["source"]), *(_value(row, name) for name in columns)] for row in texts]
    return table(["text", *map(label, columns)], rows) if rows else ""


def _value(final: dict[str, Any], name: str) -> str:
    return shown(name, final[name]) if name in final else ""


def _compared_finals(names: Sequence[str], records: Sequence[Record]) -> str:
    """What is over all held-out text in some runs and an estimate in others is an estimate here."""
    finals, wholes = ([of(record) for record in records] for of in (Record.final, Record.whole))
    metrics = dict.fromkeys(metric for final in finals for metric in final)
    rows = []
    for metric in [metric for metric in metrics if not metric.startswith(WHOLE)]:
        told, values = label(metric), finals
        if any(metric in whole for whole in wholes):
            all_whole = all(metric in whole for whole in wholes)
            told = label(WHOLE + metric) if all_whole else f"{told}, estimate"
            values = wholes if all_whole else [record.latest() for record in records]
        rows.append([told, *(_value(one, metric) for one in values)])
    return table(["figure", *names], rows)


def _compared_bindings(names: Sequence[str], records: Sequence[Record]) -> str:
    histories = [record.history() for record in records]
    bound = dict.fromkeys(name for history in histories for name in history)
    rows = [[name, *(history.get(name, "") for history in histories)] for name in bound]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    return table(["binding", *names], rows) if rows else "<p>None: the bindings are the same.</p>"


def _changes(record: Record) -> str:
    """What was set otherwise when the run was resumed."""
    rows = [[name, before, since, f"{step:,}"] for step, name, before, since in record.changes]
    return table(["changed on the way", "before", "since", "from step"], rows) if rows else ""


def _bindings_table(bindings: dict[str, str]) -> str:
    if not bindings:
        return ""
    lines = "\n".join(f"{name} = {value}" for name, value in bindings.items())
    summary = f"<summary>{len(bindings)} bindings</summary>"
    return f"<details open>{summary}<pre>{escape(lines)}</pre></details>"


def _samples(samples: dict[int, str]) -> str:
    """The first and the last side by side, and some of those between them."""
    if not samples:
        return ""
    steps = list(samples)
    first, *between = steps[:-1] if len(steps) > 1 else steps
    pair = [first] if len(steps) == 1 else [first, steps[-1]]
    shown = "".join(_sample(step, samples[step]) for step in pair)
    rest = between[:: -(-len(between) // SAMPLES_SHOWN)] if between else []
    more = "".join(_sample(step, samples[step]) for step in rest)
    more = f'<details><summary>Between them</summary><div class="pair">{more}</div></details>'
    return f'<div class="pair">{shown}</div>{more if rest else ""}'


def _sample(step: int, text: str) -> str:
    return f"<article><h3>Step {step:,}</h3><pre>{escape(text)}</pre></article>"


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def section(title: str, body: str, *, wide: bool = False) -> str:
    kind = ' class="figures"' if wide else ""
    return f"<section><h2>{escape(title)}</h2><div{kind}>{body}</div></section>" if body else ""


def _distinct_names(runs: Sequence[Path], records: Sequence[Record]) -> list[str]:
    """The folder's name; where two have the same, of all the path below what they share."""
    if len({record.name for record in records}) == len(records):
        return [record.name for record in records]
    paths = [run.resolve() for run in runs]
    shared = os.path.commonpath(path.parent for path in paths)
    return [str(path.relative_to(shared)) for path in paths]


def write_page(out: Path, title: str, sections: Sequence[str]) -> Path:
    """Replaces `out` whole, so that a reader never sees half a page."""
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(part for part in sections if part) + "\n</main>\n"
        "</body>\n</html>\n"
    )
    page = re.sub(r"[\ud800-\udfff]", "\ufffd", page)
    if not out.name:
        raise DataError(f"cannot write {out}: it is a folder; name a file")
    unfinished = out.with_name(out.name + ".tmp")
    try:
        unfinished.write_text(page, encoding="utf-8")
        unfinished.replace(out)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}") from None
    return out
