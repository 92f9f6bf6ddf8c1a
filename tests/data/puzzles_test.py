"""Small tasks: their text form, what tells them apart, and what is held out."""

import gzip
import json
import re
from pathlib import Path
from random import Random

import pytest

from lm.data.puzzles import PUZZLES, Stock, held_out

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


@pytest.mark.parametrize("name", ["letters", "strings", "words"])
def test_a_mapping_is_a_function_that_another_draw_does_not_share(name):
    def table(seed):
        return {e.question: e.answer for e in examples(name, 200, seed=seed)}

    for seed in range(5):
        drawn = examples(name, 200, seed=seed)
        assert len({e.text for e in drawn}) == len(table(seed)) == 4  # each key has one answer
    shared = {key for key in table(0) if any(key in table(seed) for seed in range(1, 60))}
    assert shared and any(
        table(seed).get(key, table(0)[key]) != table(0)[key] for key in shared for seed in range(60)
    )


def test_sums_are_right():
    for name, sign in (("plus", 1), ("minus", -1)):
        for example in examples(name, 40):
            a, b = map(int, re.findall(r"\d", example.question))
            assert int(example.answer) == a + sign * b


def things(drawn):
    """What of a task's examples must not be in both parts: of a mapping of letters, the whole."""
    if all(re.fullmatch(r"\n[a-h] = [s-z]", example.text) for example in drawn):
        return {"".join(sorted({example.text for example in drawn}))}
    if "Q:" in drawn[0].text:
        return {re.search(r"What is (.*)\?", example.text)[1] for example in drawn}
    shown = [example.question.strip(" =\n") for example in drawn]
    meant = [example.answer.strip() for example in drawn]
    return set(meant if len(shown[0]) == 1 or len(meant[0]) > 3 else shown)


@pytest.mark.parametrize("name", KINDS)
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
    if name != "letters":  # of one part they do come again, so that the sets could have met
        assert seen[0] & set().union(
            *(things(examples(name, 40, parts[0], seed)) for seed in range(60, 120))
        )


def test_a_mapping_of_letters_belongs_to_one_part_as_a_whole():
    for part in ("train", "valid"):
        tables = {
            " ".join(sorted({e.text.strip().replace(" = ", "=") for e in drawn}))
            for drawn in (examples("letters", 80, Stock(part, WORDS), seed) for seed in range(50))
        }
        assert len(tables) > 40
        assert all(held_out(table) == (part == "valid") for table in tables)
