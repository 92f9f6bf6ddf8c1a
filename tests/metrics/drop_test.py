"""DROP's scores, on cases worked out by the rules of its own evaluation."""

import pytest

from lm.metrics.drop import drop_exact, drop_f1, normalized
from lm.metrics.final_number import final_number, same_number


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The 4,000 men.", "4000.0 men"), ("4.0", "4.0"), ("4", "4.0"),
     ("a well-known Man", "well known man"), ("-3 degrees", "3.0 degrees"), ("1-yard", "1.0 yard")],
)  # fmt: skip
def test_words_are_parted_at_hyphens_and_numbers_are_values(text, expected):
    assert normalized(text) == expected


def test_a_span_with_numbers_needs_one_of_them():
    assert drop_f1("5 years", [("4 years",)]) == 0
    assert drop_f1("4 long years", [("4 years",)]) == pytest.approx(0.8)
    assert drop_f1("4 to 6 years", [("4 to 5 years",)]) == 0.75  # one of several is enough
    assert drop_f1("years", [("the years",)]) == 1  # the control: no number is asked for
    assert drop_f1("5 years", [("years",)]) == pytest.approx(0.67)


def test_words_count_once_and_the_best_reference_decides():
    assert drop_f1("Ann Ann Ann", [("Ann",)]) == 1  # SQuAD's F1 would be a half
    assert drop_f1("Bob", [("Ann",), ("Bob",)]) == 1
    assert drop_f1("", [("Ann",)]) == 0


def test_several_spans_share_the_score_and_are_not_met_exactly_by_one():
    assert drop_f1("Ann", [("Ann", "Bob")]) == 0.5
    assert drop_f1("Ann Bob", [("Ann", "Bob")]) == 0.33  # one, of which it is 2/3
    assert drop_exact("Ann", [("Ann", "Bob")]) == 0
    assert drop_exact("the Ann.", [("Ann",)]) == 1
    assert drop_exact("4.0", [("4",)]) == 1


def test_the_answer_of_a_solution_is_the_number_after_its_mark():
    assert final_number("So 3 + 4 = 7.\n#### 1,007") == "1007"
    assert final_number("The answer is 7") is None
    assert final_number("#### 3\n#### 4") == "3"  # the first mark's
    assert same_number("x\n#### 72", "Half of 144.\n#### 72")
    assert not same_number("x\n#### 7", "#### 72")
    assert not same_number("72", "#### 72")  # the mark is asked for, as published
    assert not same_number("no number", "none here")
