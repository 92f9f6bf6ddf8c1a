"""Prompts are pure functions of seed and item, and lose whole examples from the left."""

import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.evals.incontext import Item, Style, drawn, fit
from lm.text.byte import ByteTokenizer

WORDS = [Item(contexts=(f"\n{k}+1 =".strip("\n"),), completions=(f" {k + 1}",)) for k in range(20)]


def test_an_example_is_the_question_with_its_right_answer():
    choice = Item(contexts=("Q: up?\nA:",), completions=(" no", " yes"), gold=1)
    partial = Item(contexts=("the cup", "the bag"), completions=(" is full",), gold=1)
    free = Item(contexts=("Q: who?\nA:",), completions=(" Ann", " Ann B."))
    assert [item.example for item in (choice, partial, free)] == [
        "Q: up?\nA: yes", "the bag is full", "Q: who?\nA: Ann",
    ]  # fmt: skip


def test_a_prompt_is_description_examples_and_newlines_between():
    style = Style(between="\n", description="Add one:")
    assert style.prefix(WORDS[:2]) == "Add one:\n0+1 = 1\n1+1 = 2\n"
    assert Style().prefix(WORDS[:2]) == "0+1 = 1\n\n1+1 = 2\n\n"
    assert Style().prefix([]) == ""
    with pytest.raises(ConfigError, match=r"between '; ' must be one newline or two"):
        Style(between="; ")


def test_an_item_that_has_no_form_is_refused():
    with pytest.raises(ValueError, match="2 contexts and 2 completions"):
        Item(contexts=("a", "b"), completions=("c", "d"))
    with pytest.raises(ValueError, match="the right answer has number 2, there are 2"):
        Item(contexts=("a",), completions=("c", "d"), gold=2)
    with pytest.raises(ValueError, match="an answer is empty"):
        Item(contexts=("a",), completions=(" ",))


def test_examples_depend_on_seed_and_number_and_are_never_the_item_itself():
    draws = [drawn(5, 12, seed=3, number=n, itself=True) for n in range(12)]
    assert draws == [drawn(5, 12, seed=3, number=n, itself=True) for n in range(12)]
    assert draws != [drawn(5, 12, seed=4, number=n, itself=True) for n in range(12)]
    assert len({tuple(draw) for draw in draws}) == 12  # afresh for each
    for number, draw in enumerate(draws):
        assert len(set(draw)) == 5 and number not in draw
    # the control: with a pool of its own, an item's number is no reason to leave a place out
    assert any(n in drawn(5, 12, seed=3, number=n, itself=False) for n in range(12))


def test_every_other_item_is_drawn_alike_often_and_in_every_place():
    draws = np.array([drawn(3, 6, seed=s, number=2, itself=True) for s in range(3000)])
    for place in range(3):
        shares = np.bincount(draws[:, place], minlength=6) / 3000
        assert shares[2] == 0
        np.testing.assert_allclose(np.delete(shares, 2), 0.2, atol=0.03)


def test_fewer_examples_than_asked_for_are_all_of_them():
    assert sorted(drawn(50, 4, seed=0, number=1, itself=True)) == [0, 2, 3]
    assert drawn(0, 4, seed=0, number=1, itself=True) == []


def test_a_prompt_that_is_too_long_loses_whole_examples_from_the_left():
    tokenizer, style = ByteTokenizer(), Style(between="\n")
    whole = fit(WORDS[9], WORDS[:8], style, tokenizer, length=1000)
    assert whole and (whole.shots, whole.dropped) == (8, 0)
    for length in range(8, 80):
        prompt = fit(WORDS[9], WORDS[:8], style, tokenizer, length=length)
        assert prompt is not None
        assert prompt.shots + prompt.dropped == 8
        assert prompt.prefix == style.prefix(WORDS[8 - prompt.shots : 8])
        # what is read is prompt and completion but its last token: it fits, one more would not
        used = len(prompt.contexts[0]) + len(" 10") - 1
        assert used <= length
        assert prompt.shots == 8 or used + len("0+1 = 1\n") > length


def test_an_item_that_does_not_fit_alone_is_refused():
    tokenizer = ByteTokenizer()
    assert fit(WORDS[9], WORDS[:3], Style(), tokenizer, length=6) is None
    assert fit(WORDS[9], [], Style(), tokenizer, length=6) is None
    alone = fit(WORDS[9], WORDS[:3], Style(), tokenizer, length=7)
    assert alone and (alone.shots, alone.dropped, alone.prefix) == (0, 3, "")


def test_every_context_of_an_item_has_to_fit():
    item = Item(contexts=("the cup", "the cups"), completions=(" z",))
    assert fit(item, [], Style(), ByteTokenizer(), length=8) is None  # a token short of the second
    assert fit(item, [], Style(), ByteTokenizer(), length=9) is not None


def test_room_is_kept_for_an_answer_that_is_to_be_written():
    tokenizer = ByteTokenizer()
    for answer in (1, 5, 20):
        prompt = fit(WORDS[9], WORDS[:8], Style(), tokenizer, length=60, answer=answer)
        assert prompt and len(prompt.contexts[0]) + answer <= 60
        assert len(prompt.contexts[0]) + answer + len("0+1 = 1\n\n") > 60
