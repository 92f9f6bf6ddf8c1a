"""What a line of the table of image sets says."""

import numpy as np
import pytest

from lm.data.visual.example import Drawn, Example, Said
from lm.evals.suites.gpt4 import HEAD, Line
from lm.evals.visual import Answered
from lm.metrics.spread import ratio_error, standard_error


def line(name, match, *answers):
    example = Example(id="a", parts=("what?",), answers=("3.2",), match=match)
    answered = Answered([example] * len(answers), answers)
    return Line(name, answered, 0.1, 0.2, 0.3, {}, None)


@pytest.mark.parametrize(
    ("name", "match", "metric"),
    [("receipts", "exact", "exact"), ("charts", "relaxed", "relaxed"),
     ("flickr8k", "caption", "ROUGE-L")],
)  # fmt: skip
def test_a_line_names_its_metric_under_the_head(name, match, metric):
    at = HEAD.index("metric")
    assert str(line(name, match, "3.2", "4"))[at:].split()[0] == metric


def test_a_published_figure_stands_with_the_metric_it_is_of():
    assert "docvqa, anls: GPT-4 0.884" in str(line("receipts", "exact", "3.2", "4"))
    assert "chartqa, relaxed_accuracy: GPT-4 0.785" in str(line("charts", "relaxed", "3.2", "4"))


def test_the_error_is_that_of_a_sample_and_one_item_has_none():
    said = str(line("receipts", "exact", "3.2", "4", "5", "3.2"))
    wanted, biased = (np.std([1, 0, 0, 1], ddof=d) / 2 for d in (1, 0))
    assert f"0.500 ± {wanted:.3f} " in said and f"± {biased:.3f}" not in said
    assert "±" not in str(line("receipts", "exact", "3.2"))


def test_questions_about_one_image_are_one_part_of_the_sample():
    one, other = (Drawn(print, (name,)) for name in "ab")
    turns = ((one, "what?"), (one, "what?", Said("yes"), other, "and this?"), (other, "what?"))
    examples = [Example(id="a", parts=parts, answers=("yes",)) for parts in turns]
    said = str(Line("charts", Answered(examples, ("yes", "yes", "no")), 0, 0, 0, {}, None))
    parts = ratio_error([2, 0], [2, 1])
    assert f"0.667 ± {parts:.3f} " in said and parts > standard_error([1, 1, 0])  # the control
