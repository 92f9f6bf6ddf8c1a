import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.core.errors import DataError
from lm.metrics.classes import accuracy, f1, macro_f1, matthews, tag_accuracy

# (seed, items, classes, accuracy, F1, Matthews, mean F1) of scikit-learn 1.9.1's accuracy_score,
# f1_score, matthews_corrcoef and f1_score(average="macro") on the classes that `drawn` draws.
SKLEARN = [
    (0, 56, 2, 0.9285714285714286, 0.9375, 0.8566306915949727, 0.9270833333333333),
    (1, 10, 2, 0.8, 0.8, 0.6666666666666666, 0.8),
    (2, 57, 2, 0.7368421052631579, 0.7540983606557377, 0.5090160648335615, 0.7355397463656046),
    (3, 17, 4, 0.5882352941176471, None, 0.45898540322485504, 0.6027777777777777),
    (4, 17, 4, 0.6470588235294118, None, 0.5632129825772105, 0.6458333333333333),
    (5, 41, 4, 0.8292682926829268, None, 0.7724028816616287, 0.8235119047619047),
]
pairs = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


def drawn(seed):
    random_ = random.Random(seed)
    count, classes = random_.randint(2, 60), 2 if seed < 3 else 4
    right = [random_.randrange(classes) for _ in range(count)]
    predicted = [y if random_.random() < 0.6 else random_.randrange(classes) for y in right]
    return predicted, right


@pytest.mark.parametrize("golden", SKLEARN)
def test_the_scores_of_classes_equal_scikit_learns(golden):
    seed, count, classes, *expected = golden
    predicted, right = drawn(seed)
    assert len(right) == count
    assert accuracy(predicted, right) == pytest.approx(expected[0], rel=1e-12)
    if classes == 2:
        assert f1(predicted, right) == pytest.approx(expected[1], rel=1e-12)
    assert matthews(predicted, right) == pytest.approx(expected[2], rel=1e-12)
    assert macro_f1(predicted, right) == pytest.approx(expected[3], rel=1e-12)


def test_a_class_that_is_predicted_and_never_right_counts_in_the_mean_of_f1():
    assert macro_f1([0, 3, 2], [0, 0, 2]) == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_f1_is_of_class_one_and_counts_no_true_negatives():
    # 2 hits, 1 false alarm, 3 misses: precision 2/3, recall 2/5
    right = [1, 1, 1, 1, 1, 0, 0, 0]
    predicted = [1, 1, 0, 0, 0, 1, 0, 0]
    assert f1(predicted, right) == pytest.approx(0.5)
    assert f1(predicted + [0] * 100, right + [0] * 100) == pytest.approx(0.5)
    assert f1([0] * 3 + [1], [0] * 2 + [1] * 2) != f1([1] * 3 + [0], [1] * 2 + [0] * 2)
    assert f1([0, 0], [1, 0]) == 0


def test_matthews_of_a_table_equals_the_formula_of_1975():
    hits, absent, alarms, misses = 6, 3, 1, 2
    predicted = [1] * hits + [0] * absent + [1] * alarms + [0] * misses
    right = [1] * hits + [0] * absent + [0] * alarms + [1] * misses
    expected = (6 * 3 - 1 * 2) / np.sqrt((6 + 1) * (6 + 2) * (3 + 1) * (3 + 2))
    assert matthews(predicted, right) == pytest.approx(expected)


@given(pairs)
def test_matthews_is_symmetric_bounded_and_turns_its_sign_with_the_predictions(both):
    predicted, right = np.array(both).T
    value = matthews(predicted, right)
    assert -1 - 1e-12 <= value <= 1 + 1e-12
    assert value == pytest.approx(matthews(right, predicted))
    assert value == pytest.approx(-matthews(1 - predicted, right), abs=1e-12)


def test_one_class_throughout_has_no_correlation():
    assert matthews([1, 1, 1], [1, 0, 1]) == 0
    assert matthews([0, 1], [1, 1]) == 0


def test_a_majority_vote_has_high_accuracy_and_no_matthews():
    right = [1] * 9 + [0]
    assert accuracy([1] * 10, right) == 0.9
    assert matthews([1] * 10, right) == 0


def test_tags_are_counted_by_word_and_not_by_sentence():
    assert tag_accuracy([["O"], ["O", "O", "B-X"]], [["B-X"], ["O", "O", "B-X"]]) == 0.75
    with pytest.raises(DataError, match="sentence 1: 1 tags predicted for 2"):
        tag_accuracy([["O"], ["O"]], [["O"], ["O", "O"]])


def test_lengths_that_differ_and_nothing_are_refused():
    with pytest.raises(DataError, match=r"predictions \(1,\) for references \(2,\)"):
        accuracy([1], [1, 0])
    with pytest.raises(DataError, match="no predictions"):
        f1([], [])
