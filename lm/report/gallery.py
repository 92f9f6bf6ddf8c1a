"""Questions about images with what was answered, and over each image where the answer looked."""

import re
from typing import Any

from lm.report.text import escape

BASE64 = re.compile(r"[A-Za-z0-9+/]+=*")
SIDE = 160  # pixels on the page
KEY = "Beside each image, the same: bright where the answer looked, dark where it did not."


def gallery(rows: list[dict[str, Any]]) -> str:
    """An article for each row {"images": base64 of PNGs, "attention": of each M shares of a square
    grid, "question", "answer", "truth": str}; a row with another content is left out. Shares are of
    all images together; an earlier run's row has one "image", and the shares of its own."""
    articles = "".join(_article(row) for row in map(_several, rows) if _sound(row))
    return f'<p>{KEY}</p><div class="pair">{articles}</div>' if articles else ""


def _several(row: dict[str, Any]) -> dict[str, Any]:
    """A row as of now."""
    if "image" not in row:
        return row
    return row | {"images": [row["image"]], "attention": [row.get("attention")]}


def _sound(row: dict[str, Any]) -> bool:
    images, attention = row.get("images"), row.get("attention")
    if not (isinstance(images, list) and isinstance(attention, list)):
        return False
    return len(images) == len(attention) > 0 and all(
        isinstance(image, str) and BASE64.fullmatch(image) and isinstance(shares, list)
        and all(isinstance(n, int | float) for n in shares)
        for image, shares in zip(images, attention, strict=True)
    )  # fmt: skip


def _article(row: dict[str, Any]) -> str:
    most = max((share for shares in row["attention"] for share in shares), default=0.0) or 1.0
    shown = []
    for image, shares in zip(row["images"], row["attention"], strict=True):
        picture = f'<image href="data:image/png;base64,{image}" width="1" height="1"/>'
        shown += [
            _square(picture, "the image"),
            _square(picture + _heat(shares, most), "attention"),
        ]
    told = "".join(
        f"<p>{name}: {escape(str(row.get(name, '')))}</p>"
        for name in ("question", "answer", "truth")
    )
    return f"<article>{''.join(shown)}{told}</article>"


def _square(inside: str, name: str) -> str:
    style = "image-rendering: pixelated; margin-right: .5rem"
    told = f'role="img" aria-label="{name}" style="{style}"'
    return f'<svg width="{SIDE}" height="{SIDE}" viewBox="0 0 1 1" {told}>{inside}</svg>'


def _heat(attention: list[float], most: float) -> str:
    """The image darkened but where the answer looked, at `most` not at all."""
    grid = round(len(attention) ** 0.5)
    return "".join(
        f'<rect x="{place % grid / grid:.4f}" y="{place // grid / grid:.4f}" '
        f'width="{1 / grid:.4f}" height="{1 / grid:.4f}" '
        f'fill="black" fill-opacity="{0.8 * (1 - share / most):.2f}"/>'
        for place, share in enumerate(attention[: grid**2])
    )
