"""Where the time of a run went: what `goodput.json` says (lm/train/goodput.py writes it)."""

import json
import math
from pathlib import Path
from typing import Any

KINDS = ("init", "restore", "compile", "step", "data", "evaluate", "save")


def processes(path: Path) -> list[dict[str, Any]]:
    """The entries of a file that can be counted; none where it is missing or damaged."""
    try:
        found = json.loads(path.read_text())["processes"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [entry for entry in found if countable(entry)] if isinstance(found, list) else []


def countable(entry: Any) -> bool:
    """Whether it is one that `lm/train/goodput.py` writes."""
    if not isinstance(entry, dict) or not isinstance(entry.get("seconds"), dict):
        return False
    steps, seconds = (entry.get("first"), entry.get("last")), entry["seconds"].values()
    return all(isinstance(step, int) for step in steps) and all(
        isinstance(spent, int | float) for spent in seconds
    )


def totals(entries: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds by kind over all processes, `lost` among them, and `goodput`: the share of the time
    that went into steps whose work was kept."""
    seconds = dict.fromkeys((*KINDS, "lost"), 0.0)
    kept = math.inf  # the last step that no later process made again
    for entry in reversed(entries):
        for kind in KINDS:
            seconds[kind] += entry["seconds"].get(kind, 0.0)
        made = entry["last"] - entry["first"]
        if made > 0:
            again = min(made, max(0, entry["last"] - kept))
            lost = entry["seconds"].get("step", 0.0) * again / made
            seconds["step"] -= lost
            seconds["lost"] += lost
        kept = min(kept, entry["first"])
    whole = sum(seconds.values())
    return seconds | {"goodput": seconds["step"] / whole if whole else 0.0}
