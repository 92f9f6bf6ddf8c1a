"""Means over seeds with bands of one deviation, in panels side by side: a figure for a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lm.report.canvas import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Band:
    """One line; `colour` is a number, so that panels can share it."""

    label: str
    x: Sequence[float]
    mean: Sequence[float]
    deviation: Sequence[float] = ()  # none: no band
    colour: int = 0
    dash: str = "-"


@dataclass(frozen=True)
class Panel:
    """`behind` is drawn pale, on a scale of its own at the top."""

    title: str
    xlabel: str
    ylabel: str
    bands: Sequence[Band]
    behind: Sequence[Band] = ()
    above: str = ""  # what the scale at the top is
    log: tuple[bool, bool] = (False, False)  # x, y
    marks: Sequence[tuple[float, str]] = ()  # values of x, with a word to each


def draw_panels(title: str, panels: Sequence[Panel]) -> str:
    """An SVG document. The same panels give the same bytes."""

    def paint(figure: "Figure") -> None:
        for number, panel in enumerate(panels, start=1):
            _draw(figure.add_subplot(1, len(panels), number), panel)
        figure.suptitle(title)

    return svg(title, (4.6 * len(panels), 4.0), paint)


def _draw(axes: "Axes", panel: Panel) -> None:
    if panel.behind:
        above = axes.twiny()
        above.set_xscale("log" if panel.log[0] else "linear")
        above.set_xlabel(panel.above, color="0.5")
        above.tick_params(axis="x", colors="0.5")
        _lines(above, panel.behind, alpha=0.35)
        axes.set_zorder(above.get_zorder() + 1)
        axes.patch.set_visible(False)
    axes.set_xscale("log" if panel.log[0] else "linear")
    axes.set_yscale("log" if panel.log[1] else "linear")
    _lines(axes, panel.bands, alpha=1.0)
    for place, word in panel.marks:
        axes.axvline(place, color="0.5", lw=1, ls="--", label=word)
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel(panel.xlabel)
    axes.set_ylabel(panel.ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.bands or panel.marks:
        axes.legend(fontsize=7, frameon=False)


def _lines(axes: "Axes", bands: Sequence[Band], alpha: float) -> None:
    for band in bands:
        x, mean, colour = np.asarray(band.x), np.asarray(band.mean), f"C{band.colour}"
        axes.plot(
            x, mean, color=colour, ls=band.dash, lw=1.5, marker="o", ms=3, alpha=alpha,
            label=band.label,
        )  # fmt: skip
        if len(band.deviation):
            away = np.asarray(band.deviation)
            axes.fill_between(x, mean - away, mean + away, color=colour, alpha=0.18 * alpha, lw=0)
