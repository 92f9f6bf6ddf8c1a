"""Questions about images with what was answered, and over each image where the answer looked."""

import re
from typing import Any

from lm.report.text import escape

BASE64 = re.compile(r"[A-Za-z0-9+/]+=*")
SIDE = 160  # pixels on the page


def gallery(rows: list[dict[str, Any]]) -> str:
    """An article for each row {"image": base64 of a PNG, "attention": M shares of a square grid or
    [], "question", "answer", "truth": str}; a row with another content is left out."""
    articles = "".join(_article(row) for row in rows if _sound(row))
    return f'<div class="pair">{articles}</div>' if articles else ""


def _sound(row: dict[str, Any]) -> bool:
    image, attention = row.get("image"), row.get("attention")
    numbers = isinstance(attention, list) and all(isinstance(n, int | float) for n in attention)
    return isinstance(image, str) and bool(BASE64.fullmatch(image)) and numbers


def _article(row: dict[str, Any]) -> str:
    picture = f'<image href="data:image/png;base64,{row["image"]}" width="1" height="1"/>'
    shown = [_square(picture), _square(picture + _heat(row["attention"]))]
    told = "".join(
        f"<p>{name}: {escape(str(row.get(name, '')))}</p>"
        for name in ("question", "answer", "truth")
    )
    return f"<article>{''.join(shown)}{told}</article>"


def _square(inside: str) -> str:
    style = "image-rendering: pixelated; margin-right: .5rem"
    return f'<svg width="{SIDE}" height="{SIDE}" viewBox="0 0 1 1" style="{style}">{inside}</svg>'


def _heat(attention: list[float]) -> str:
    """The image darkened but where the answer looked."""
    grid = round(len(attention) ** 0.5)
    most = max(attention, default=0.0) or 1.0
    return "".join(
        f'<rect x="{place % grid / grid:.4f}" y="{place // grid / grid:.4f}" '
        f'width="{1 / grid:.4f}" height="{1 / grid:.4f}" '
        f'fill="black" fill-opacity="{0.8 * (1 - share / most):.2f}"/>'
        for place, share in enumerate(attention[: grid**2])
    )
