"""Panels of bands."""

import re

from lm.report.panels import Band, Panel, draw_panels

PANEL = Panel(
    "title", "size", "accuracy",
    [Band("few", [1e3, 1e4], [0.2, 0.6], [0.1, 0.1]), Band("zero", [1e3, 1e4], [0.1, 0.1])],
    behind=[Band("paper", [1e8, 1e11], [0.3, 0.4])], above="paper's size", log=(True, False),
)  # fmt: skip


def test_a_drawing_has_every_label_and_the_same_bytes_again():
    drawn = draw_panels("study", [PANEL, PANEL])
    for label in ("study", "few", "zero", "size", "accuracy", "paper's size"):
        assert label in drawn.replace("&#39;", "'")
    assert drawn == draw_panels("study", [PANEL, PANEL])


def test_a_band_is_drawn_only_where_there_is_a_deviation():
    shaded = len(re.findall(r"FillBetweenPolyCollection|PolyCollection", draw_panels("s", [PANEL])))
    plain = Panel("title", "size", "accuracy", [Band("zero", [1e3, 1e4], [0.1, 0.1])])
    assert shaded == 1
    assert not re.search(r"PolyCollection", draw_panels("s", [plain]))
