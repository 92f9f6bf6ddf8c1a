"""The measurement of a server under load, on a small model."""

import pytest

from lm.serve.load import load_figure, stall_figure
from tests.serve.served import served


@pytest.mark.slow
def test_many_streams_at_once_all_end_without_an_error():
    one = served(length=64, slots=8, queue=32)
    told = load_figure(one, clients=32, tokens=24, longest=32)
    one.engine.close()
    assert told["errors"] == 0, told["first_fault"]
    assert told["tokens_per_second"] > 0 and told["slowest"] >= 1


@pytest.mark.slow
def test_the_pause_for_a_long_prompt_is_measured():
    one = served(length=200, slots=2)
    told = stall_figure(one.engine, prompt=150, tokens=40)
    one.engine.close()
    assert told["stall"] >= 1 and told["first"] > 0 and told["pause"] > 0
