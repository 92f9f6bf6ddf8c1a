import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lm.core.errors import DataError
from lm.metrics.correlation import pearson, ranks, spearman

grades = st.integers(0, 20).map(lambda x: x / 4)  # as STS-B: many ties
both = st.lists(st.tuples(grades, grades), min_size=2, max_size=40).map(lambda x: np.array(x).T)


def varied(sides):
    return all(len(set(side)) > 1 for side in sides)


@given(both.filter(varied))
def test_the_correlations_equal_scipys(sides):
    predicted, right = sides
    expected = stats.pearsonr(predicted, right).statistic
    assert pearson(predicted, right) == pytest.approx(expected, abs=1e-10)
    expected = stats.spearmanr(predicted, right).statistic
    assert spearman(predicted, right) == pytest.approx(expected, abs=1e-10)


def test_ties_share_their_mean_rank():
    assert ranks([3.0, 1.0, 3.0, 2.0, 3.0]).tolist() == [4, 1, 4, 2, 4]


def test_spearman_with_ties_equals_a_value_computed_by_hand():
    # ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: deviations -1.5 0 0 1.5 and -1.5 .5 -.5 1.5
    assert spearman([1, 2, 2, 3], [10, 30, 20, 40]) == pytest.approx(4.5 / np.sqrt(4.5 * 5))


@given(both.filter(varied))
def test_spearman_sees_order_alone_and_pearson_does_not(sides):
    predicted, right = sides
    assert spearman(np.exp(predicted), right) == pytest.approx(spearman(predicted, right))
    assert pearson(3 * predicted - 7, right) == pytest.approx(pearson(predicted, right), abs=1e-9)


def test_pearson_changes_under_a_curve():
    line = np.arange(10.0)
    assert pearson(line, line) == pytest.approx(1)
    assert pearson(np.exp(line), line) < 0.8
    assert spearman(np.exp(line), line) == pytest.approx(1)


def test_a_constant_has_correlation_zero_and_huge_numbers_do_not_overflow():
    assert pearson([2.0, 2.0, 2.0], [1, 2, 3]) == spearman([1, 2, 3], [0, 0, 0]) == 0
    assert pearson([1e300, -1e300, 0], [1, -1, 0]) == pytest.approx(1)


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_numbers_that_are_not_finite_are_refused(correlation):
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="not finite"):
            correlation([1.0, bad, 2.0], [1.0, 2.0, 3.0])
