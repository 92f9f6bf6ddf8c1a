import numpy as np
import pytest

from lm.core.errors import DataError
from lm.metrics.spread import (
    bootstrap_error,
    bootstrap_interval,
    by_chance,
    by_group,
    clear,
    over_seeds,
    ratio_error,
    standard_error,
    student,
)


def test_the_standard_error_of_hits_is_that_of_a_proportion():
    hits = np.array([1] * 30 + [0] * 70)
    assert standard_error(hits) == pytest.approx(np.sqrt(0.3 * 0.7 / 99))


def test_the_bootstrap_interval_is_that_of_the_normal_law_for_many_values():
    values = np.random.default_rng(0).normal(5, 2, 4000)
    low, high = bootstrap_interval(values)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.01)
    assert (high - low) / 2 == pytest.approx(1.96 * standard_error(values), rel=0.08)
    narrow = bootstrap_interval(values, confidence=0.5)
    assert low < narrow[0] < values.mean() < narrow[1] < high


def test_about_nineteen_of_twenty_intervals_hold_the_true_mean():
    random = np.random.default_rng(1)
    draws = [random.exponential(1, 60) for _ in range(150)]
    held = [bootstrap_interval(x, samples=200, seed=s) for s, x in enumerate(draws)]
    covered = sum(low <= 1 <= high for low, high in held) / len(held)
    assert 0.88 < covered < 0.99


def test_the_interval_is_the_same_for_the_same_seed():
    values = [0, 1, 1, 0, 1, 1, 1]
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)


def test_mean_and_deviation_over_seeds_and_none_for_one_seed():
    assert over_seeds([0.8, 0.9, 1.0]) == (pytest.approx(0.9), pytest.approx(0.1))
    assert over_seeds([0.7]) == (0.7, None)


def test_a_gain_is_clear_above_twice_its_deviation_over_more_than_one_seed():
    assert clear(0.5, 0.2) and not clear(0.5, 0.25) and not clear(-0.5, 0.0)
    assert not clear(0.5, None)


def test_one_value_has_no_spread():
    for function in (standard_error, bootstrap_interval):
        with pytest.raises(DataError, match="1 values have no spread"):
            function([0.5])
    with pytest.raises(DataError, match="no runs"):
        over_seeds([])


def test_sums_are_over_groups_and_what_has_none_stands_alone():
    values = np.array([[1, 0], [2, 0], [3, 1], [4, 0], [5, 1]])
    assert by_group(values, ["b", "", "a", "", "b"]).tolist() == [[6, 1], [2, 0], [3, 1], [4, 0]]


def test_of_parts_of_one_unit_the_error_of_a_ratio_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(size=50)
    assert ratio_error(values, np.ones(50)) == pytest.approx(standard_error(values))


def test_the_bootstrap_error_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(5, 2, 400)
    counts = np.stack([values, np.ones(400)], axis=1)
    error = bootstrap_error(lambda sums: sums[0] / sums[1], counts)
    assert error == pytest.approx(standard_error(values), rel=0.1)


@pytest.mark.parametrize(("free", "expected"), [(1, 12.706), (4, 2.776), (10, 2.228), (30, 2.042)])
def test_the_quantiles_of_student_are_those_of_the_tables(free, expected):
    assert student(0.95, free) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_noise_is_called_a_gain_as_often_as_is_said(seeds):
    random = np.random.default_rng(seeds)
    drawn = random.normal(size=(200_000, seeds))
    mean, deviation = drawn.mean(1), drawn.std(1, ddof=1)
    called = np.mean(np.abs(mean) > 2 * deviation)
    assert called == pytest.approx(by_chance(seeds), rel=0.05)
