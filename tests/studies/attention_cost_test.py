"""What the costs of attention are told as."""

import pytest

from lm.nn.config import BlockConfig
from lm.nn.patterns import mean_pairs
from lm.studies import attention_cost
from lm.studies.attention_cost import (
    ALTERNATING,
    PATTERNS,
    attention_figures,
    draw_costs,
    exponent,
    in_turns,
)


def test_the_exponent_of_a_power_is_that_power():
    lengths = [1024, 2048, 8192]
    assert exponent(lengths, [n**1.5 for n in lengths]) == pytest.approx(1.5)


def test_dense_layers_between_banded_ones_leave_the_square(monkeypatch):
    """GPT-3's arrangement, by its pairs; Child's strided layers keep theirs at n sqrt n."""
    sizes = BlockConfig(layers=2, width=8, heads=1, pattern=("dense", "banded"))

    def counted(pattern, length, repeats):
        stride = round(length**0.5)
        one = BlockConfig(layers=1, width=8, heads=1, stride=stride, pattern=(pattern,))
        costs = dict.fromkeys(attention_cost.COSTS, mean_pairs(length, one))
        return {"name": "attention", "pattern": pattern, "length": length, **costs}

    monkeypatch.setattr(attention_cost, "measured", counted)
    told = list(attention_figures(1, lengths=(4096, 16_384)))
    last = [f for f in told if f["pattern"] == ALTERNATING and f["name"] == "attention"][-1]
    assert last["pairs"] == mean_pairs(16_384, sizes)
    exponents = {f["pattern"]: f["pairs"] for f in told if f["name"] == "exponent"}
    assert exponents["dense"] >= exponents[ALTERNATING] > 1.9
    assert exponents["strided"] == pytest.approx(1.5, abs=0.01)
    assert exponents["banded"] < 1.05 and exponents["powers"] < 1.15


def test_layers_that_take_turns_share_the_work_and_need_the_memory_of_the_larger_one():
    dense = dict.fromkeys(attention_cost.COSTS, 6) | {"name": "attention", "length": 8}
    banded = dict.fromkeys(attention_cost.COSTS, 2)
    for one, other in ((dense, banded), (banded, dense)):
        both = in_turns(one, other)
        assert both["temporary_bytes"] == 6 and both["flops"] == both["pairs"] == 4


@pytest.mark.slow
def test_every_pattern_is_measured_fitted_and_drawn():
    figures = list(attention_figures(1, lengths=(128, 256)))
    every = [*PATTERNS, ALTERNATING]
    assert [f["pattern"] for f in figures if f["name"] == "exponent"] == every
    measured = [f for f in figures if f["name"] == "attention"]
    assert len(measured) == 2 * len(every)
    assert all(f["flops"] > 0 and f["seconds"] > 0 and f["pairs"] > 0 for f in measured)
    drawn = draw_costs(figures)
    assert drawn.startswith("<?xml") and "seconds, forward and gradient" in drawn
    assert all(f"{pattern}: n^" in drawn for pattern in every)
