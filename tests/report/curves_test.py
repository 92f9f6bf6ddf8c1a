import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from lm.report.curves import BINS, Curve, Level, _binned, draw

STEPS = list(range(1, 51))
LOSS = [1 / step for step in STEPS]


def drawn(**more):
    curves = [Curve("training loss", STEPS, LOSS)]
    return draw("Loss", curves, xlabel="steps", ylabel="nats a token", **more)


def test_the_same_points_give_the_same_bytes():
    assert drawn() == drawn()


def test_a_drawing_is_one_element_that_takes_the_colours_of_its_page():
    svg = drawn(levels=[Level("paper", 0.5)])
    root = ElementTree.fromstring(svg.replace("xlink:href", "href"))
    assert root.tag == "svg"
    assert "var(--series-0)" in svg and "var(--ink)" in svg and "var(--reference)" in svg
    assert "#0101" not in svg and "#0102" not in svg
    assert "http" not in svg and "<style" not in svg


def test_labels_are_shown_as_they_are():
    svg = draw("<t>", [Curve("_a <b> & $x$", STEPS, LOSS), Curve("b", STEPS, LOSS)],
               xlabel="steps", ylabel="")  # fmt: skip
    assert "_a &lt;b&gt; &amp; $x$" in svg
    assert 'aria-label="&lt;t&gt;"' in svg
    assert "<b>" not in svg


def test_a_second_scale_counts_tokens():
    tokens = Curve("tokens", STEPS, [step * 1_000_000.0 for step in STEPS])
    assert ">40M<" in drawn(tokens=tokens)
    assert ">40M<" not in drawn()


def test_tokens_that_grow_unevenly_are_placed_by_their_step():
    tokens = Curve("tokens", STEPS, [1e6 * step**2 for step in STEPS])
    assert "2G<" in drawn(tokens=tokens)


@pytest.mark.parametrize(
    "y",
    [
        [], [1.0], [math.nan], [math.nan, 1.0, math.inf], [0.0, 0.0], [1.0, 1.7e308],
        [-1.7e308, 1.7e308], [1.0, 9e299, -9e299], [9e299] * 3 * BINS,
    ],
)  # fmt: skip
def test_short_flat_and_broken_curves_are_drawn(y):
    x = list(range(len(y)))
    svg = draw("x", [Curve("y", x, y)], xlabel="steps", ylabel="", tokens=Curve("tokens", x, x))
    assert svg.startswith("<svg") and svg.endswith("</svg>")


def test_a_long_curve_keeps_its_spikes_and_stays_small():
    y = np.ones(20_000)
    y[12_345] = 50.0
    x, mean, low, high = _binned(np.arange(20_000.0), y)
    assert len(x) == len(mean) == BINS
    assert high.max() == 50 and low.min() == 1
    assert mean.mean() == pytest.approx(y.mean())
    svg = draw("x", [Curve("y", range(20_000), y)], xlabel="steps", ylabel="")
    assert len(svg) < 100_000


def test_a_stretch_without_numbers_is_a_gap():
    y = np.ones(4 * BINS)
    y[40:80] = np.nan
    _, mean, _, _ = _binned(np.arange(4.0 * BINS), y)
    assert np.isnan(mean[10:20]).all()
    assert np.isfinite(np.delete(mean, range(10, 20))).all()


def test_small_numbers_share_a_power_of_ten_and_leave_the_label_its_place():
    svg = draw("u", [Curve("u", STEPS, [0.0016 + y / 1e5 for y in LOSS])], xlabel="s", ylabel="u")
    marks = re.findall(r">([0-9.\u2212]+)</text>", svg)
    assert marks and max(map(len, marks)) <= 5
