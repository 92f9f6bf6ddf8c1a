import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.core.errors import DataError
from lm.metrics.answers import (
    answer_f1,
    exact_match,
    has_answer_exact,
    has_answer_f1,
    left_out_f1,
    no_answer_exact,
    normalized,
)

WORDS = (
    ("The", "a", "an", "cat", "Cat's", "sat", "on", "mat.")
    + ("U.S.", "1,000", "—", "the-end", "  ", "")
)  # fmt: skip
# (seed, exact, F1) of SQuAD 2.0's script, as transformers 4.46.3 has it in
# data/metrics/squad_metrics.py, on the questions that `drawn` draws.
SQUAD = [
    (0, 0.7, 0.7666666666666666),
    (1, 0.4, 0.4),
    (2, 0.3, 0.43999999999999995),
    (3, 0.1, 0.2666666666666667),
    (4, 0.5, 0.6523809523809523),
    (5, 0.7, 0.75),
    (6, 0.3, 0.35),
    (7, 0.4, 0.4),
    (8, 0.3, 0.49714285714285716),
    (9, 0.2, 0.25),
    (10, 0.5, 0.5666666666666667),
    (11, 0.4, 0.48),
]


def drawn(seed):
    random_ = random.Random(seed)

    def phrase():
        return " ".join(random_.choice(WORDS) for _ in range(random_.randint(0, 5)))

    predictions, references = [], []
    for _ in range(10):
        right = [phrase() for _ in range(random_.randint(0, 3))]
        guess = random_.choice(right) if right and random_.random() < 0.4 else phrase()
        predictions.append(guess)
        references.append(right)
    return predictions, references


@pytest.mark.parametrize(("seed", "exact", "f1"), SQUAD)
def test_exact_match_and_f1_equal_squads_script(seed, exact, f1):
    predictions, references = drawn(seed)
    assert exact_match(predictions, references) == pytest.approx(exact, rel=1e-12)
    assert answer_f1(predictions, references) == pytest.approx(f1, rel=1e-12)


def test_punctuation_goes_before_articles_and_white_space_last():
    assert normalized("  The  U.S.\tis an-other\n A. ") == "us is another"
    assert normalized("theatre, another") == "theatre another"  # not the articles inside
    assert normalized("Ünder — the bridge") == "ünder — bridge"  # a dash beyond ASCII stays


def test_f1_counts_a_word_as_often_as_it_stands_in_both():
    # 2 shared words of 3 given and 4 wanted
    assert answer_f1(["red red fox"], [["red fox in snow"]]) == pytest.approx(2 * 2 / 7)
    assert exact_match(["red red fox"], [["red fox in snow"]]) == 0


def test_the_best_right_answer_counts():
    right = [["in 1905", "1905", "the year of 1905"]]
    assert exact_match(["1905."], right) == answer_f1(["1905."], right) == 1
    assert answer_f1(["1905"], [["in 1905"]]) == pytest.approx(2 / 3)


def test_each_reference_is_left_out_in_turn_and_the_nearest_of_the_others_counts():
    assert left_out_f1("a b", ["a b"]) == left_out_f1("b", ["b", "b"]) == 1
    assert left_out_f1("ann", ["ann", "bob"]) == 0.5  # where it is left out, nothing is near
    assert left_out_f1("ann", ["ann", "bob", "eve"]) == pytest.approx(2 / 3)


def test_leaving_a_question_without_an_answer_is_right_where_it_has_none():
    predictions, references = ["", "Paris", "Rome", ""], [[], [], ["Rome"], ["Oslo"]]
    assert no_answer_exact(predictions, references) == 0.5
    assert has_answer_exact(predictions, references) == 0.5
    assert has_answer_f1(["", "", "in Rome", "Oslo"], references) == pytest.approx((2 / 3 + 1) / 2)
    assert exact_match(predictions, references) == answer_f1(predictions, references) == 0.5


def test_a_split_that_no_question_is_in_is_not_a_number():
    assert math.isnan(no_answer_exact(["a"], [["b"]]))
    assert math.isnan(has_answer_f1(["a"], [[]]))


@given(st.lists(st.lists(st.sampled_from(WORDS)).map(" ".join), min_size=1, max_size=6))
def test_a_right_answer_scores_one_and_f1_is_no_less_than_exact_match(texts):
    references = [[text] for text in texts]
    assert exact_match(texts, references) == answer_f1(texts, references) == 1
    turned = texts[1:] + texts[:1]
    assert exact_match(turned, references) <= answer_f1(turned, references) <= 1


def test_numbers_that_differ_and_nothing_are_refused():
    with pytest.raises(DataError, match="1 answers for 2 questions"):
        exact_match(["a"], [["a"], ["b"]])
    with pytest.raises(DataError, match="no answers"):
        answer_f1([], [])
