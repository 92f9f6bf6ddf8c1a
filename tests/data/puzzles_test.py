"""Small tasks: their text form, what tells them apart, and what is held out."""

import gzip
import json
import re
from pathlib import Path
from random import Random

import pytest

from lm.data.puzzles import KEYS, PUZZLES, Stock, held_out

RELEASED = Path(__file__).parents[2].parent / "shared" / "data" / "gpt3_synthetic"
KINDS = {puzzle.name: puzzle for puzzle in PUZZLES}
WORDS = tuple("water house under again table stone light green river story quiet never".split())
STOCK = Stock("train", WORDS)


def examples(name, count, stock=STOCK, seed=0):
    random = Random(seed)
    rule = KINDS[name].rule(random, stock)
    return [rule(random) for _ in range(count)]


def form(text):
    """A text with `w` for the words of an example and `0` for its numbers."""
    return re.sub(r"-?\d+", "0", re.sub(r"\b[a-z']+(?= =)|(?<=^ )[a-z']+$", "w", text))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cycled word", "cycle_letters_in_word"),
        ("anagram", "mid_word_1_anagrams"),
        ("reversed word", "reversed_words"),
        ("plus", "two_digit_addition"),
        ("minus", "two_digit_subtraction"),
    ],
)
def test_the_text_form_is_that_of_the_released_file(name, file):
    if not RELEASED.is_dir():
        pytest.skip("shared data are not here")
    with gzip.open(RELEASED / f"{file}.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(50), strict=False)]
    released = {(form(row["context"]), form(row["completion"])) for row in rows}
    ours = {(form(e.question), form(e.answer)) for e in examples(name, 50)}
    assert ours == released and len(ours) == 1


def test_insertions_are_those_of_the_released_file():
    if not RELEASED.is_dir():
        pytest.skip("shared data are not here")
    with gzip.open(RELEASED / "random_insertion_in_word.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    shape = re.compile(r"\n[a-z']([!./ ][a-z'])+ =")
    assert sum(bool(shape.fullmatch(row["context"])) for row in rows) > 0.99 * len(rows)
    assert all(shape.fullmatch(example.question) for example in examples("insertion", 50))


def answer_by_hand(name, shown):
    return {"copy": shown, "reverse": shown[::-1], "cycle": shown[1:] + shown[:1]}[name]


@pytest.mark.parametrize("name", ["copy", "reverse", "cycle"])
def test_an_operation_does_what_it_is_called(name):
    for example in examples(name, 20):
        shown = example.question.removeprefix("\n").removesuffix(" =")
        assert example.answer == " " + answer_by_hand(name, shown) and len(shown) == 3


@pytest.mark.parametrize("name", ["cycled word", "anagram", "insertion", "reversed word"])
def test_a_scrambled_word_has_the_letters_of_its_answer(name):
    for example in examples(name, 40):
        shown = re.sub(r"[!./ ]", "", example.question.removeprefix("\n").removesuffix("="))
        word = example.answer.removeprefix(" ")
        assert sorted(shown) == sorted(word) and word in WORDS
        if name == "anagram":
            assert (shown[0], shown[-1]) == (word[0], word[-1]) and shown != word


MAPPINGS = [puzzle.name for puzzle in PUZZLES if puzzle.family == "mapping"]


def table(name, seed, part="train"):
    """The whole of a mapping, read off many examples of it."""
    drawn = examples(name, 80, Stock(part, WORDS), seed)
    return {e.question.strip("\n ="): e.answer.strip() for e in drawn}


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_mapping_is_a_function_of_four_things_that_another_draw_maps_otherwise(name):
    some = [table(name, seed) for seed in range(200)]
    assert all(len(one) == KEYS for one in some)
    assert len({tuple(sorted(one)) for one in some}) > 150
    answers = [answer for one in some for answer in one.values()]
    likeliest = max(map(answers.count, answers)) / len(answers)
    assert likeliest < 2 / len(set(answers))  # so that a question alone says little of its answer


@pytest.mark.parametrize("name", MAPPINGS)
def test_training_writes_a_mapping_in_several_ways_and_the_test_in_that_of_gpt_3(name):
    def ways(part):
        drawn = [examples(name, 1, Stock(part, WORDS), seed)[0] for seed in range(60)]
        return {re.sub(r"\w+", "x", one.text) for one in drawn}

    assert ways("valid") == {"\nx = x"}
    assert ways("train") == {"\nx = x", "\nx =x", "\nx=x", "\nx"}


def test_sums_are_right():
    for name, sign in (("plus", 1), ("minus", -1)):
        for example in examples(name, 40):
            a, b = map(int, re.findall(r"\d", example.question))
            assert int(example.answer) == a + sign * b


def things(drawn):
    """What of a task's examples must not be in both parts."""
    if "Q:" in drawn[0].text:
        return {re.search(r"What is (.*)\?", example.text)[1] for example in drawn}
    shown = [example.question.strip(" =\n") for example in drawn]
    meant = [example.answer.strip() for example in drawn]
    return set(meant if len(meant[0]) > 3 else shown)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in MAPPINGS])
def test_nothing_of_a_test_item_is_ever_in_a_training_item(name):
    words = [a + b + c for a in "bcdfgh" for b in "aeiou" for c in "klmn"]
    parts = [
        Stock(part, tuple(w for w in words if held_out(w) == (part == "valid")))
        for part in ("train", "valid")
    ]
    seen = [
        set().union(*(things(examples(name, 40, stock, seed)) for seed in range(60)))
        for stock in parts
    ]
    assert min(map(len, seen)) > 5
    assert not seen[0] & seen[1]
    again = (things(examples(name, 40, parts[0], seed)) for seed in range(60, 120))
    assert seen[0] & set().union(*again)  # of one part they do come again: the sets could have met


def test_a_pair_of_numbers_is_in_one_part_whichever_comes_first_and_whatever_is_done_with_it():
    def pairs(part):
        drawn = [e for name in ("plus", "minus") for e in examples(name, 2_000, Stock(part, ()))]
        return {tuple(sorted(re.findall(r"\d", example.question))) for example in drawn}

    trained, tested = pairs("train"), pairs("valid")
    assert not trained & tested and len(trained | tested) == 55 and len(tested) > 8
    # the control: by the text of a question, a pair would be in one part and its mirror in another
    assert any(
        held_out(f"{a} plus {b}") != held_out(f"{b} plus {a}") for a in range(10) for b in range(a)
    )


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_mapping_at_test_was_never_one_in_training(name):
    def written(part):
        tables = (table(name, seed, part) for seed in range(100))
        return {" ".join(f"{key} {one[key]}" for key in sorted(one)) for one in tables}

    assert all(held_out(one) for one in written("valid"))
    assert not any(held_out(one) for one in written("train") if one.count(" ") == 2 * KEYS - 1)
