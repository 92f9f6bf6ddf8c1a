import pytest

from lm.metrics.anls import distance, similarity


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("ab", "ba", 2),
     ("intention", "execution", 5)],
)  # fmt: skip
def test_a_distance_is_the_fewest_edits(a, b, edits):
    assert distance(a, b) == edits


@pytest.mark.parametrize(
    ("said", "truth", "value"),
    [("12 May", "12 may", 1), (" 12  May ", "12 May", 1), ("12 Mai", "12 May", 5 / 6),
     ("kitten", "sitting", 4 / 7), ("ab", "ax", 1 / 2), ("abc", "axx", 0), ("", "12 May", 0),
     ("12 May 1970", "12 May", 6 / 11), ("12 May, 1970", "12 May", 1 / 2),
     ("on 12 May, 1970", "12 May", 0)],
)  # fmt: skip
def test_an_answer_is_right_by_what_edits_leave_of_it_and_not_at_all_below_a_half(
    said, truth, value
):
    assert similarity(said, truth) == pytest.approx(value)
