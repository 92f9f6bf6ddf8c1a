"""Names, numbers and tables as a reader of the page sees them. All of it is escaped here."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from lm.report.record import WHOLE, is_number

LABELS = {
    "loss": "training loss",
    "valid_loss": "validation loss",
    "valid_bits_per_byte": "validation bits per byte",
    "trigram_bits_per_byte": "byte trigram, bits per byte",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_second": "tokens a second",
    "mfu": "model FLOPs utilisation",
    "seconds": "time",
    "weight": "weight in the mixture",
    "epochs": "epochs elapsed",
}
CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
UNSEEN = (*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))  # C1, directions
CONTROLS |= dict.fromkeys(UNSEEN, 0xFFFD)


def escape(value: str) -> str:
    """Escaped for a page; control characters become their pictures, those that have none, and those
    that turn a line's direction, the replacement character."""
    return html.escape(value.translate(CONTROLS))


def label(name: str) -> str:
    """What a metric is called on the page."""
    if name.startswith(WHOLE):
        return f"{label(name.removeprefix(WHOLE))}, all held-out text"
    return LABELS.get(name, name.replace("_", " "))


def shown(name: str, value: Any) -> str:
    """The value of a metric in the unit that a reader expects."""
    if name == "seconds" and is_number(value) and math.isfinite(value):
        minutes, seconds = divmod(round(value), 60)
        hours, minutes = divmod(minutes, 60)
        if hours:
            return f"{hours} h {minutes} min"
        return f"{minutes} min {seconds} s" if minutes else f"{number(value)} s"
    if name.endswith("win_rate") and isinstance(value, list) and len(value) == 3:
        mean, low, high = map(number, value)
        return f"{mean} (95%: {low} to {high})"
    return f"{value:.1%}" if name in ("mfu", "weight") and is_number(value) else number(value)


def number(value: Any) -> str:
    """Four digits that count, thousands apart, of several numbers each; anything else as it is."""
    if isinstance(value, dict):
        return ", ".join(f"{label(name)} {number(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(number, value))
    if not is_number(value):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if 9_999.5 <= abs(value) < 1e15 else f"{value:.4g}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table of plain text; the first cell of a row is its heading."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr><th>{escape(row[0])}</th>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
