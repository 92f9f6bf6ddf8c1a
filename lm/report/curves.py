"""Curves as SVG text that can stand inside a page: no file, no script, the page's own colours.

matplotlib draws with stand-in colours, which become CSS variables, so that one drawing suits a
light and a dark page. The same points give the same bytes.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lm.report.canvas import svg
from lm.report.text import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 400  # a longer curve is drawn as the mean of each bin inside its range
LARGEST = 1e300  # number that is drawn: nearer to a double's limit matplotlib finds no scale
SERIES = 8  # colours; a further series takes them again with another dash
DASHES = ("-", "--", ":", "-.")
INK, GRID, REFERENCE, PANEL = "#010101", "#010102", "#010103", "#010104"
COLOURS = tuple(f"#0102{number:02x}" for number in range(SERIES))
VARIABLES = {
    INK: "var(--ink)",
    GRID: "var(--grid)",
    REFERENCE: "var(--reference)",
    PANEL: "var(--panel)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(COLOURS)},
}
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "legend.facecolor": PANEL,
    "legend.edgecolor": PANEL,
    "legend.framealpha": 0.8,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Curve:
    """One line of a figure, `y` against `x`; where `y` cannot be drawn the line breaks."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    # its place in all figures, as a colour, of which `legend` tells once; None: that in its own
    series: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with: a published figure or a baseline."""

    label: str
    value: float


def draw(
    title: str,
    curves: Sequence[Curve],
    *,
    xlabel: str,
    ylabel: str,
    levels: Sequence[Level] = (),
    tokens: Curve | None = None,
) -> str:
    """An `<svg>` element of the curves. `tokens` (tokens against x) adds a second scale on top. A
    curve alone has no legend, and neither have those of a series."""

    def paint(figure: "Figure") -> None:
        figure.subplots_adjust(left=0.14, right=0.97, bottom=0.15, top=0.84 if tokens else 0.93)
        axes = figure.add_subplot()
        for place, curve in enumerate(curves):
            _line(axes, curve, *_pen(place if curve.series is None else curve.series))
        for number, level in enumerate(levels):
            dash = DASHES[1 + number % (len(DASHES) - 1)]
            axes.axhline(level.value, color=REFERENCE, lw=1.2, ls=dash, label=_plain(level.label))
        _scales(axes, curves, xlabel, ylabel, tokens)
        told = [curve for curve in curves if curve.series is None]
        if len(told) + len(levels) > 1:
            axes.legend(fontsize=8)

    return _inline(svg(title, (5.6, 3.1), paint, layout=None, style=STYLE), title)


def legend(names: Sequence[str]) -> str:
    """A list of the names of a series, each behind a piece of its line."""

    def item(number: int, name: str) -> str:
        colour, dash = _pen(number)
        pattern = {"-": "", "--": "5 2", ":": "1 2", "-.": "6 2 1 2"}[dash]
        line = (
            f'<svg width="28" height="8" aria-hidden="true"><path d="M0 4H28" stroke-width="2.5" '
            f'stroke="{VARIABLES[colour]}" stroke-dasharray="{pattern}"/></svg>'
        )
        return f"<li>{line} {escape(name)}</li>"

    return f'<ul class="legend">{"".join(map(item, range(len(names)), names))}</ul>'


def _pen(number: int) -> tuple[str, str]:
    """Colour and dash of a place in a series."""
    return COLOURS[number % SERIES], DASHES[number // SERIES % len(DASHES)]


def _line(axes: "Axes", curve: Curve, colour: str, dash: str) -> None:
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    y = np.where(np.abs(y) < LARGEST, y, np.nan)
    if len(x) > 2 * BINS:
        x, y, low, high = _binned(x, y)
        axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    alone = "o" if len(x) <= 40 else None
    axes.plot(x, y, color=colour, ls=dash, lw=1.5, marker=alone, ms=3, label=_plain(curve.label))


def _binned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean x, mean y, lowest and highest y of `BINS` runs of points; all-NaN runs stay NaN."""
    edges = np.linspace(0, len(x), BINS, endpoint=False).astype(int)
    count = np.maximum(np.add.reduceat(np.isfinite(y).astype(int), edges), 1)
    low, high = np.fmin.reduceat(y, edges), np.fmax.reduceat(y, edges)
    mean = np.add.reduceat(np.nan_to_num(y), edges) / count
    width = np.diff(np.append(edges, len(x)))
    return np.add.reduceat(x, edges) / width, np.where(np.isnan(low), np.nan, mean), low, high


def _scales(
    axes: "Axes", curves: Sequence[Curve], xlabel: str, ylabel: str, tokens: Curve | None
) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.tick_params(length=0)
    axes.ticklabel_format(axis="y", scilimits=(-2, 4))  # few digits: the label stands beside them
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ends = [end for curve in curves if len(curve.x) for end in (curve.x[0], curve.x[-1])]
    if not ends or min(ends) == max(ends):
        return
    axes.set_xlim(min(ends), max(ends))
    if tokens is None or len(tokens.x) < 2 or not (np.diff(tokens.y) > 0).all():
        return
    step, count = np.asarray(tokens.x, float), np.asarray(tokens.y, float)
    above = axes.secondary_xaxis(
        "top",
        functions=(lambda x: _interpolate(x, step, count), lambda n: _interpolate(n, count, step)),
    )
    above.set_xlabel(tokens.label)
    above.xaxis.set_major_formatter(EngFormatter(sep=""))
    above.xaxis.set_major_locator(MaxNLocator(6))
    above.tick_params(length=0)
    above.grid(False)


def _interpolate(at: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`np.interp` that goes straight on beyond the ends."""
    first, last = (y[1] - y[0]) / (x[1] - x[0]), (y[-1] - y[-2]) / (x[-1] - x[-2])
    at = np.asarray(at, float)
    inside = np.interp(at, x, y)
    return inside + np.minimum(at - x[0], 0) * first + np.maximum(at - x[-1], 0) * last


def _plain(label: str) -> str:
    """A label that matplotlib neither hides (`_name`) nor reads as mathematics (`$`)."""
    return "\u200b" * label.startswith("_") + label.replace("$", r"\$")


def _inline(document: str, title: str) -> str:
    """The element alone: no prolog, no metadata, no name that another drawing may have as well."""
    text = document[document.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    size = re.search(r'viewBox="[^"]*"', text)
    assert size is not None, "matplotlib wrote an SVG without a viewBox"
    head, body = text.split(">", 1)
    name = html.escape(title)
    return f'<svg {size[0]} role="img" aria-label="{name}" class="figure">{body}'.rstrip()
