import pytest

from lm.metrics.answers import exact_match
from lm.metrics.triviaqa import trivia_exact


@pytest.mark.parametrize(
    ("answer", "right", "same"),
    [("rock n roll", "Rock-n-Roll", 1), ("The Bee_Gees.", "bee gees", 1),
     ("\u2018O\u2019Brien\u2019", "o brien", 1), ("N.A.T.O.", "nato", 0), ("n t o", "N.A.T.O.", 1),
     ("Ann", "Ann Lee", 0)],
)  # fmt: skip
def test_punctuation_leaves_a_blank_as_in_trivia_qas_own_evaluation(answer, right, same):
    assert trivia_exact(answer, ["something else", right]) == same


def test_squads_rule_would_have_it_otherwise():
    for answer, right in (("rock n roll", "Rock-n-Roll"), ("N.A.T.O.", "nato")):
        assert exact_match([answer], [[right]]) != trivia_exact(answer, [right])
