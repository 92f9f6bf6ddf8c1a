"""Figures that papers print, to stand beside ours: read from `published.json`, the one place.

Each has the system, task and metric it is of, the value as a fraction, and its table. None was
measured on the rows, the models or the corpora of a run here, unless the run is of that size.
"""

import functools
import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("published.json")


@functools.cache
def figures() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(FILE.read_text()))


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
