"""Perplexity of losses a run can have."""

import math

import pytest

from lm.metrics.perplexity import perplexity


def test_perplexity_of_a_loss_that_diverged_is_a_number_still():
    assert perplexity(math.log(50_257)) == pytest.approx(50_257)
    assert math.isfinite(perplexity(1e30)) and math.isnan(perplexity(math.nan))
