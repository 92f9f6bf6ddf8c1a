"""Figures that papers print, to stand beside ours: read from `published.json`, the one place.

Each has the system, task and metric it is of, the value (a share is a fraction), its table, and the
`error` that is printed behind it, where there is one. None was measured on the rows, the models or
the corpora of a run here, unless the run is of that size. A line may hold the values of several
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


def one(family: str, task: str, metric: str, system: str) -> dict[str, Any]:
    """The figure of one system on a task.

    Raises:
      LookupError: there is none, or there are several.
    """
    wanted = (family, task, metric, system)
    found = [
        row for row in figures()
        if (row["family"], row["task"], row["metric"], row["system"]) == wanted
    ]  # fmt: skip
    if len(found) != 1:
        raise LookupError(f"{FILE.name} has {len(found)} figures of {wanted}, not one")
    return found[0]


def loss_law() -> tuple[float, float]:
    """a and b of GPT-3's loss in nats a token, a C^-b over its compute C in PF-days."""
    factor, exponent = (
        one("gpt3", "loss_law", metric, "GPT-3")["value"] for metric in ("factor", "exponent")
    )
    return factor, exponent


def h1() -> dict[str, dict[str, list[float]]]:
    """GPT-3's table H.1 by setting and size, from small to large: its 21 values in their order."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in figures():
        if row["source"] == "GPT-3 table H.1":
            found.setdefault(row["setting"], {}).setdefault(row["system"], []).append(row["value"])
    return found


def of_case(task: str, metric: str, case: str) -> list[dict[str, Any]]:
    """What was published of a case of a study, by the name of a system, or of a family ("BERT")."""
    family = case.lower().replace("-", "")
    return [
        row for row in figures()
        if (row["task"], row["metric"]) == (task, metric)
        and (row["system"] == case or row["family"] == family)
    ]  # fmt: skip


def gap(value: float | None, row: dict[str, Any] | None) -> float | None:
    """By how much a value is above the published one of its metric; None without either."""
    return None if value is None or row is None else value - row["value"]


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
