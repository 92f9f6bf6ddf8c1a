"""Charts drawn by matplotlib with the table behind them: to read, compare, find the extreme, count.

A chart fits an image of 64 pixels: three to five columns A to E, with values from 1 to 9.
"""

import functools
import random
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from lm.data.visual.example import Drawn, Example, Picture, asked
from lm.data.visual.layouts import HELD_OUT, Part, drawing, layout, speckled

CHARTS = {"train": 4_000, "valid": 150}
LETTERS = "ABCDE"
LOCK = threading.Lock()  # a canvas is drawn on by one thread
LAYOUTS = {
    "shape": ("bars", "line"),
    "colour": ("tab:blue", "tab:red", "tab:green", "black"),
    "grid": (True, False),
    "letters": (("DejaVu Sans", 5), ("DejaVu Sans Mono", 6), ("DejaVu Serif", 6)),  # in points
    "thick": (0.5, 0.75),
    "frame": (True, False),
    "noise": (0, 8, 20),
}


def values(draw: random.Random, part: Part) -> list[int]:
    """A number a column; one is the highest and one the lowest. By its hash a table is in one part
    and never in the other."""
    while True:
        found = [draw.randint(1, 9) for _ in range(draw.randint(3, len(LETTERS)))]
        mine = (zlib.crc32(bytes(found)) % HELD_OUT == 0) == (part == "valid")
        if mine and found.count(max(found)) == found.count(min(found)) == 1:
            return found


def draw_chart(part: Part, number: int) -> Any:
    """A Pillow image, 64 x 64, of chart number `number`."""
    from PIL import Image

    draw = drawing("chart", part, number)
    table, chosen = values(draw, part), layout(draw, part, LAYOUTS)
    noise = chosen.pop("noise")
    with LOCK:
        canvas, axes, empty, columns = frame(tuple(chosen.items()), len(table))
        canvas.restore_region(empty)
        if chosen["shape"] == "bars":
            for column, value in zip(columns, table, strict=True):
                column.set_height(value)
        else:
            columns[0].set_ydata(table)
        for column in columns:
            axes.draw_artist(column)
        image = Image.fromarray(np.array(canvas.buffer_rgba()), "RGBA").convert("RGB")
    return speckled(image, draw, noise)


@functools.lru_cache(maxsize=576)
def frame(chosen: tuple[tuple[str, Any], ...], count: int) -> tuple[Any, Any, Any, list[Any]]:
    """A canvas with all of a chart but its columns, which take a hundredth of the time: the canvas,
    its axes, how it looks, and the columns to be drawn."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    of, places = dict(chosen), range(count)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(0.64, 0.64), dpi=100)
        axes = figure.add_axes((0.16, 0.16, 0.82, 0.8))
        nothing, colour = [1] * count, of["colour"]
        if of["shape"] == "bars":
            columns = list(
                axes.bar(places, nothing, color=colour, width=of["thick"], animated=True)
            )
        else:
            columns = axes.plot(
                places, nothing, color=colour, lw=2 * of["thick"], marker="o", ms=3, animated=True
            )
        face, size = of["letters"]
        axes.set_xticks(places, list(LETTERS[:count]), family=face, fontsize=size)
        axes.set_yticks((0, 3, 6, 9), ("0", "3", "6", "9"), family=face, fontsize=size)
        axes.set_xlim(-0.6, count - 0.4)
        axes.set_ylim(0, 9.5)
        axes.tick_params(length=1, pad=1, width=0.5)
        axes.spines[["top", "right"]].set_visible(of["frame"])
        if of["grid"]:
            axes.grid(axis="y", lw=0.3)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return canvas, axes, canvas.copy_from_bbox(figure.bbox), columns


def questions(table: list[int], draw: random.Random) -> dict[str, tuple[str, str]]:
    """One question of each kind, and its answer."""
    column, (left, right) = draw.randrange(len(table)), draw.sample(range(len(table)), 2)
    highest = draw.random() < 0.5
    extreme = table.index(max(table) if highest else min(table))
    return {
        "read": (f"What is the value of {LETTERS[column]}?", str(table[column])),
        "compare": (
            f"Is {LETTERS[left]} more than {LETTERS[right]}?",
            "yes" if table[left] > table[right] else "no",
        ),
        "extremum": (f"Which is the {'highest' if highest else 'lowest'}?", LETTERS[extreme]),
        "count": ("How many values are there?", str(len(table))),
    }


def tables(part: Part) -> Iterator[tuple[int, list[int], Picture]]:
    """Number, values and picture of every chart of a part."""
    for number in range(CHARTS[part]):
        table = values(drawing("chart", part, number), part)
        yield number, table, Drawn(draw_chart, (part, number))


def charts(part: Part) -> list[Example]:
    """Four questions about each chart; a number may be 5 % off, as in ChartQA."""
    return [
        Example(
            id=f"chart-{part}-{number}-{kind}",
            parts=asked(question, picture),
            answers=(answer,),
            match="relaxed",
            kind=kind,
        )
        for number, table, picture in tables(part)
        for kind, (question, answer) in questions(table, random.Random(number)).items()
    ]


def chart_tables(part: Part) -> list[Example]:
    """The table behind each chart, to be written down: "A 3, B 7, C 1".

    One row teaches every value, where a question asks for one (chart derendering: MatCha, Liu et
    al. 2023, section 3.1).
    """
    return [
        Example(
            id=f"chart_table-{part}-{number}",
            parts=asked("What does the chart show?", picture),
            answers=(", ".join(f"{LETTERS[at]} {value}" for at, value in enumerate(table)),),
            kind="table",
        )
        for number, table, picture in tables(part)
    ]
