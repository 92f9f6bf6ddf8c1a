"""pass@k against counting all choices, and against drawing."""

import itertools
import math

import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.evals.programs.pass_rate import pass_at_k


def test_it_is_the_share_of_choices_that_have_a_right_one():
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                choices = list(itertools.combinations([True] * c + [False] * (n - c), k))
                expected = sum(map(any, choices)) / len(choices)
                assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)


def test_it_is_the_quotient_of_binomials_where_these_are_huge():
    n, c, k = 1000, 3, 100
    exact = 1 - math.comb(n - c, k) / math.comb(n, k)
    assert float(pass_at_k(n, c, k)) == pytest.approx(exact, rel=1e-12)
    assert np.isfinite(pass_at_k(100_000, 7, 5000))


def test_it_has_no_bias_where_the_plug_in_has():
    random, rate, n, k = np.random.default_rng(0), 0.1, 20, 10
    c = random.binomial(n, rate, size=20_000)
    true = 1 - (1 - rate) ** k
    spread = 4 * 0.5 / math.sqrt(len(c))
    assert abs(pass_at_k(n, c, k).mean() - true) < spread
    plugged = 1 - (1 - c / n) ** k
    assert abs(plugged.mean() - true) > spread  # the control


def test_one_of_one_is_the_share_that_passed():
    np.testing.assert_allclose(pass_at_k([4, 10, 7], [1, 10, 0], 1), [0.25, 1, 0])


def test_what_cannot_be_told_is_refused():
    with pytest.raises(ConfigError, match=r"k 11 must be in 1\.\.10"):
        pass_at_k([20, 10], [1, 1], 11)
    with pytest.raises(ConfigError, match="more programs passed"):
        pass_at_k(3, 4, 1)
