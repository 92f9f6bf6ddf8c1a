"""Figures that papers print, to stand beside ours: read from `published.json`, the one place.

Each has the system, task and metric it is of, the value as a fraction, its table, and the `error`
that is printed behind it, where there is one. None was measured on the rows, the models or the
corpora of a run here, unless the run is of that size. A line may hold the values of several
systems, and their errors.
"""

import functools
import json
import math
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("published.json")


@functools.cache
def figures() -> tuple[dict[str, Any], ...]:
    found = []
    for line in json.loads(FILE.read_text()):
        values, errors = line.pop("values", None), line.pop("errors", {})
        if values is None:
            found.append(line)
            continue
        for name, value in values.items():
            error = {"error": errors[name]} if name in errors else {}
            found.append(line | {"system": name, "value": value} | error)
    return tuple(found)


def beside(family: str, task: str) -> list[dict[str, Any]]:
    """What was published of a family ("bert", "gpt1") on a task: name, value, source of each."""
    return [
        {
            "name": row["metric"],
            "value": row["value"],
            "source": f"{row['system']}, {row['source']}",
        }
        for row in figures()
        if row["family"] == family and row["task"] == task
    ]


def nearest(
    family: str, task: str, metric: str, setting: str, parameters: int
) -> dict[str, Any] | None:
    """The figure of the system whose size is nearest to `parameters` in logarithm, with its own
    `parameters`; None where there is none of this metric and setting ("zero", "one", "few")."""
    sizes = {
        row["system"]: row["value"]
        for row in figures()
        if (row["family"], row["task"], row["metric"]) == (family, "size", "parameters")
    }
    wanted = (family, task, metric, setting)
    rows = [
        row | {"parameters": sizes[row["system"]]}
        for row in figures()
        if (row["family"], row["task"], row["metric"], row.get("setting")) == wanted
    ]
    return min(rows, key=lambda row: abs(math.log(row["parameters"] / parameters)), default=None)
