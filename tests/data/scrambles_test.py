"""Words scrambled here have the distribution of the released files."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lm.data.scrambles import MARKS, cycled, inner_anagram, inserted, reversed_letters

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "gpt3_synthetic"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the released files are not there")
SCRAMBLES = {  # by the released files
    "cycle_letters_in_word": cycled,
    "mid_word_1_anagrams": inner_anagram,
    "random_insertion_in_word": inserted,
    "reversed_words": reversed_letters,
}


def released(name: str) -> list[dict[str, str]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def split(row: dict[str, str]) -> tuple[str, str]:
    assert (
        row["context"][0] == "\n" and row["context"].endswith(" =") and row["completion"][0] == " "
    )
    return row["context"][1:-2], row["completion"][1:]


def facts(name: str, pairs: list[tuple[str, str]]) -> Counter:
    """What happened to words, as often as it did."""
    found: Counter = Counter()
    for shown, word in pairs:
        if name == "cycle_letters_in_word":
            by = [k for k in range(len(word)) if word[k:] + word[:k] == shown]
            found["none" if 0 in by else "cycled" if by else "broken"] += 1
            found["by one"] += 1 in by
        elif name == "mid_word_1_anagrams":
            same = (shown[0], shown[-1]) == (word[0], word[-1])
            found["kept" if same and sorted(shown) == sorted(word) else "broken"] += 1
            found["same"] += shown == word
        elif name == "random_insertion_in_word":
            found["letters" if shown[::2] == word else "broken"] += 1
            found.update(shown[1::2])
        else:
            found["reversed" if shown == word[::-1] else "broken"] += 1
    return found


@needs_data
@pytest.mark.parametrize("name", SCRAMBLES)
def test_words_are_scrambled_as_often_so_as_in_the_released_file(name):
    theirs, random = list(map(split, released(name))), np.random.default_rng(0)
    ours = [(SCRAMBLES[name](word, random), word) for _, word in theirs]
    a, b = facts(name, ours), facts(name, theirs)
    assert a["broken"] == b["broken"] == 0
    assert a.keys() == b.keys()
    for fact in a:
        spread = np.sqrt(a[fact] + b[fact])
        assert abs(a[fact] - b[fact]) < 4 * max(1, spread), fact


def test_between_every_two_letters_stands_one_of_four_marks():
    random = np.random.default_rng(0)
    for word in ("layers", "vocabulary"):
        shown = inserted(word, random)
        assert shown[::2] == word and set(shown[1::2]) <= set(MARKS)
        assert len(shown) == 2 * len(word) - 1
