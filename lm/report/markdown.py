"""Tables of Markdown, and figures in them."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def with_deviation(mean: float, deviation: float | None, digits: int = 3) -> str:
    """A mean over seeds, and its deviation where there are several."""
    told = f"{mean:.{digits}f}"
    return told if deviation is None else f"{told} ± {deviation:.{digits}f}"
