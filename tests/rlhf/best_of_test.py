"""Best of n, against drawing every set of n."""

import itertools
import math

import numpy as np

from lm.rlhf.best_of import best_of_n, best_of_n_kl, win_rates

NUMBERS = np.random.default_rng(0)
PROXY, GOLD = NUMBERS.standard_normal((2, 6, 3))


def test_the_expected_best_equals_the_mean_over_all_sets():
    for n in range(1, 7):
        sets = [list(some) for some in itertools.combinations(range(6), n)]
        expected = np.mean([PROXY[some].max(axis=0) for some in sets], axis=0)
        np.testing.assert_allclose(best_of_n(PROXY, n), expected, rtol=1e-12)
        chosen = np.mean(
            [np.take_along_axis(GOLD[some], PROXY[some].argmax(axis=0)[None], axis=0)[0]
             for some in sets], axis=0,
        )  # fmt: skip
        np.testing.assert_allclose(best_of_n(PROXY, n, GOLD), chosen, rtol=1e-12)


def test_the_best_of_one_is_the_policy_itself_and_more_is_further_away():
    np.testing.assert_allclose(best_of_n(PROXY, 1), PROXY.mean(axis=0))
    assert best_of_n_kl(1) == 0.0
    assert math.isclose(best_of_n_kl(16), math.log(16) - 15 / 16)


def test_a_win_is_a_higher_score_and_a_tie_is_half_of_one():
    rates = win_rates(np.array([1.0, 0.0]), np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert rates.tolist() == [0.75, 0.25]
