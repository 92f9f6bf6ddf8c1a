"""What the costs of attention are told as."""

import pytest

from lm.studies.attention_cost import PATTERNS, attention_figures, draw_costs, exponent


def test_the_exponent_of_a_power_is_that_power():
    lengths = [1024, 2048, 8192]
    assert exponent(lengths, [n**1.5 for n in lengths]) == pytest.approx(1.5)


@pytest.mark.slow
def test_every_pattern_is_measured_fitted_and_drawn():
    figures = list(attention_figures(1, lengths=(128, 256)))
    assert [f["pattern"] for f in figures if f["name"] == "exponent"] == list(PATTERNS)
    measured = [f for f in figures if f["name"] == "attention"]
    assert len(measured) == 2 * len(PATTERNS)
    assert all(f["flops"] > 0 and f["seconds"] > 0 and f["pairs"] > 0 for f in measured)
    drawn = draw_costs(figures)
    assert drawn.startswith("<?xml") and "seconds, forward and gradient" in drawn
    assert all(f"{pattern}: n^" in drawn for pattern in PATTERNS)
