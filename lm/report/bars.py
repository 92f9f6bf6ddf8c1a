"""Means with their deviations, in groups: one figure for a study, as a file of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lm.report.canvas import svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Bar:
    """One mean: `series` of a `group`, and its deviation."""

    group: str
    series: str
    mean: float
    deviation: float


def draw_bars(title: str, bars: Sequence[Bar]) -> str:
    """An SVG document of the bars, groups side by side. The same bars give the same bytes."""
    groups = list(dict.fromkeys(bar.group for bar in bars))
    series = list(dict.fromkeys(bar.series for bar in bars))

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        width = 0.8 / len(series)
        for number, name in enumerate(series):
            mine = [bar for bar in bars if bar.series == name]
            x = np.array([groups.index(bar.group) for bar in mine]) + (number + 0.5) * width - 0.4
            axes.bar(
                x, [bar.mean for bar in mine], width * 0.92,
                yerr=[bar.deviation for bar in mine], capsize=2, label=name,
            )  # fmt: skip
        axes.set_xticks(range(len(groups)), groups)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(title)
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)

    return svg(title, (2.2 + 1.9 * len(groups), 3.6), paint)
