"""Word tasks made here have the text form and the distribution of the released files."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lm.core.errors import ConfigError, DataError
from lm.data.scrambles import LONGEST, MARKS, SCRAMBLES, scrambled

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "gpt3_synthetic"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the released files are not there")
WORDS = [
    "layers", "casino", "verdict", "anything", "believed", "vocabulary", "successes", "symbol",
    "a", "Upper", "it's", "four", "abcdefghijklmnop", "banana",
]  # fmt: skip


def released(name: str) -> list[dict[str, str]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def split(row: dict[str, str]) -> tuple[str, str]:
    assert (
        row["context"][0] == "\n" and row["context"].endswith(" =") and row["completion"][0] == " "
    )
    return row["context"][1:-2], row["completion"][1:]


def facts(name: str, rows: list[dict[str, str]]) -> Counter:
    """What happened to words, as often as it did."""
    found: Counter = Counter()
    for shown, word in map(split, rows):
        if name == "cycle_letters_in_word":
            by = [k for k in range(len(word)) if word[k:] + word[:k] == shown]
            found["none" if 0 in by else "cycled" if by else "broken"] += 1
            found["by one"] += 1 in by
        elif name.startswith("mid_word"):
            kept = int(name[9])
            same = shown[:kept] == word[:kept] and shown[-kept:] == word[-kept:]
            found["kept" if same and sorted(shown) == sorted(word) else "broken"] += 1
            if kept == 1:
                found["same"] += shown == word
        elif name == "random_insertion_in_word":
            found["letters" if shown[::2] == word else "broken"] += 1
            found.update(shown[1::2])
        else:
            found["reversed" if shown == word[::-1] else "broken"] += 1
    return found


@needs_data
@pytest.mark.parametrize("name", SCRAMBLES)
def test_text_and_distribution_are_those_of_the_released_file(name):
    theirs = released(name)
    words = [split(row)[1] for row in theirs]
    ours = scrambled(name, words, len(words), seed=0)
    assert sorted(split(row)[1] for row in ours) == sorted(words)  # the same words in another order
    a, b = facts(name, ours), facts(name, theirs)
    assert a["broken"] == b["broken"] == 0
    assert a.keys() == b.keys()
    for fact in a:
        spread = np.sqrt(a[fact] + b[fact])
        assert abs(a[fact] - b[fact]) < 4 * max(1, spread), fact
    assert set(map(len, words)) == set(range(SCRAMBLES[name][1], LONGEST + 1))


def test_only_lower_case_words_of_the_papers_lengths_are_taken():
    for name, (_, shortest) in SCRAMBLES.items():
        words = {split(row)[1] for row in scrambled(name, WORDS, 8, seed=0)}
        assert all(shortest <= len(word) <= LONGEST and word.isalpha() for word in words)
        assert words == set(WORDS[:8])  # the most frequent are the first


def test_rows_are_the_seeds_own():
    one, again, other = (scrambled("mid_word_1_anagrams", WORDS, 8, seed=s) for s in (1, 1, 2))
    assert one == again != other


def test_between_every_two_letters_stands_one_of_four_marks():
    for shown, word in map(split, scrambled("random_insertion_in_word", WORDS, 8, seed=0)):
        assert shown[::2] == word and set(shown[1::2]) <= set(MARKS)
        assert len(shown) == 2 * len(word) - 1


def test_too_few_words_and_an_unknown_task_are_refused():
    with pytest.raises(DataError, match="9 words of 6 to 15 letters, 10 are wanted"):
        scrambled("reversed_words", WORDS, 10, seed=0)
    with pytest.raises(ConfigError, match="unknown word task 'reversed'"):
        scrambled("reversed", WORDS, 1, seed=0)
