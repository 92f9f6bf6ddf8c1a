"""When a text that a model wrote names what is meant."""

import pytest

from lm.evals.comparisons import as_meant, named


@pytest.mark.parametrize(
    ("text", "noun", "is_named"),
    [("cup", "the red cup", True), ("The red cup, I think.", "cup", True),
     ("the red bag", "the red cup", False), ("cup", "bag", False), ("", "cup", False)],
)  # fmt: skip
def test_a_noun_is_named_where_a_text_has_all_of_it_or_it_all_of_the_text(text, noun, is_named):
    assert named(text, noun) == is_named
    assert as_meant(text, [[noun], ["true"]]) == is_named
    assert as_meant(text, [[noun], ["false"]]) == (not is_named)
