"""One's own data of every kind: named columns, and what is wrong with a row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data.records import Answer, Choice, Regression, Span, Tagging
from lm.data.tasks import PUBLISHED
from lm.data.tasks.forms import Malformed, item

NER = ("O", "B-X", "I-X")
PASSAGE = "Ann went to Rome. Rome was hot."


def record(kind, labelled=True, labels=NER, **values):
    return item(PUBLISHED[kind], labels, "own:1", values, labelled).record


def span(*answers, passage=PASSAGE, **values):
    return record("span", question="Where?", context=passage, answers=list(answers), **values)


def answer(text, start):
    return {"text": text, "answer_start": start}


def test_named_columns_of_each_kind_become_its_record():
    assert record("regression", text="x", pair="y", label=3) == Regression(
        id="own:1", text="x", pair="y", label=3.0
    )
    assert record("choice", id=4, context="c", question="q", choices=["x", "y"], label=1) == Choice(
        id="4", context="c", question="q", choices=("x", "y"), label=1
    )
    assert span(answer("Rome", 12)) == Span(
        id="own:1", question="Where?", passage=PASSAGE, answers=(Answer("Rome", 12),)
    )
    assert record("tagging", words=["a", "b"], tags=["B-X", "O"]) == Tagging(
        id="own:1", words=("a", "b"), label=(1, 0)
    )


@pytest.mark.parametrize("name", [n for n, form in PUBLISHED.items() if form.kind == "choice"])
def test_a_published_choice_task_reads_rows_that_are_laid_out_as_ones_own(name):
    row = {"context": "She waited for", "choices": ["the bus.", "the sea."], "label": 0}
    for each in (row, row | {"question": "For what?"}):
        assert record(name, **each) == record("choice", **each)
    with pytest.raises(Malformed):
        record(name, context="c", label=0)


def test_answers_are_a_list_of_objects_or_an_object_of_lists():
    lists = {"text": ["Rome", "Rome"], "answer_start": [12, 18]}
    both = record("span", question="Where?", passage=PASSAGE, answers=lists)
    assert both == span(answer("Rome", 12), answer("Rome", 18))


def test_a_question_without_an_answer_has_an_empty_tuple_and_an_unlabelled_one_none():
    assert span().answers == ()
    assert span(is_impossible=True).answers == ()
    unlabelled = record("span", labelled=False, question="Where?", context=PASSAGE)
    assert unlabelled.answers is None


@given(st.text(min_size=1, max_size=30).filter(str.strip), st.data())
def test_every_span_of_a_passage_is_an_answer_and_moved_by_one_it_is_not(passage, data):
    start = data.draw(st.integers(0, len(passage) - 1))
    text = passage[start : data.draw(st.integers(start + 1, len(passage)))]
    if not text.strip():
        return
    assert span(answer(text, start), passage=passage).answers == (Answer(text, start),)
    for moved in (start - 1, start + 1):
        if moved < 0 or not passage[moved:].startswith(text):
            with pytest.raises(Malformed):
                span(answer(text, moved), passage=passage)


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([answer("Rome", 28)], "answer 28:32 outside the passage of 31 characters"),
        ([answer("Rome", -1)], "answer -1:3 outside"),
        ([answer("Rome", 13)], "answer 'Rome' at 13, where the passage has 'ome.'"),
        ([answer("rome", 12)], "answer 'rome' at 12, where the passage has 'Rome'"),
        ([answer("", 12)], "an answer is empty"),
        ([answer("Rome", "12")], "answer_start is '12'"),
        ([answer("Rome", True)], "answer_start is True"),
        ([{"text": "Rome"}], '"answers" has no list'),
        ({"text": ["Rome"], "answer_start": []}, '"answers" has no list'),
        ("Rome", '"answers" has no list'),
        (None, 'missing "answers"'),
    ],
)
def test_an_answer_that_is_no_span_of_its_passage_says_why(answers, problem):
    with pytest.raises(Malformed, match=problem):
        record("span", question="Where?", context=PASSAGE, answers=answers)


def test_is_impossible_must_agree_with_the_answers():
    with pytest.raises(Malformed, match="is_impossible, and yet there are answers"):
        span(answer("Rome", 12), is_impossible=True)
    with pytest.raises(Malformed, match="no answer, and yet is_impossible is false"):
        span(is_impossible=False)


@pytest.mark.parametrize(
    ("kind", "values", "problem"),
    [
        ("tagging", {"words": ["a", "b"], "tags": ["O"]}, "1 tags for 2 words"),
        ("tagging", {"words": [], "tags": []}, '"words" is .*expected a list of words'),
        ("tagging", {"words": "ab", "tags": ["O", "O"]}, "expected a list of words"),
        ("tagging", {"words": ["a", " "], "tags": ["O", "O"]}, "word 1 is empty"),
        ("tagging", {"words": ["a"], "tags": ["B-Y"]}, "unknown label 'B-Y'; known: O, B-X, I-X"),
        ("tagging", {"words": ["a"]}, 'missing "tags"'),
        ("tagging", {"words": ["a"], "tags": "O"}, "expected a list of tags"),
        ("choice", {"context": "c", "choices": ["x"], "label": 0}, "expected a list of two"),
        ("choice", {"context": "c", "choices": "xy", "label": 0}, "expected a list of two"),
        ("choice", {"context": "c", "choices": ["x", 3], "label": 0}, "choice 1 is 3"),
        ("choice", {"context": "c", "choices": ["x", "y"], "label": 2}, "unknown label '2'"),
        ("choice", {"context": "c", "choices": ["x", "y"]}, 'missing "label"'),
        ("choice", {"choices": ["x", "y"], "label": 0}, 'missing "context"'),
        ("regression", {"text": "x", "label": "high"}, "'high', expected a finite number"),
        ("regression", {"text": "x", "label": True}, "True, expected a finite number"),
        ("regression", {"text": "x", "label": float("inf")}, "inf, expected a finite number"),
        ("regression", {"text": 3, "label": 1}, '"text" is 3, expected text'),
        ("regression", {"text": "\ud800", "label": 1}, "not Unicode text"),
        ("regression", {"text": "x", "pair": "\n", "label": 1}, '"pair" is empty'),
        ("regression", {"id": [1], "text": "x", "label": 1}, '"id" is '),
    ],
)
def test_a_row_that_is_no_record_says_why(kind, values, problem):
    with pytest.raises(Malformed, match=problem):
        record(kind, **values)
