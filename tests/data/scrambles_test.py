"""Words scrambled here have the distribution of the released files."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.data.scrambles import MARKS, SCRAMBLES, deep_anagram, inner_anagram, inserted, scrambled

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "gpt3_synthetic"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the released files are not there")
KEPT = {"mid_word_1_anagrams": 1, "mid_word_2_anagrams": 2}  # letters on each side


def released(name: str) -> list[dict[str, str]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def split(row: dict[str, str]) -> tuple[str, str]:
    assert (
        row["context"][0] == "\n" and row["context"].endswith(" =") and row["completion"][0] == " "
    )
    return row["context"][1:-2], row["completion"][1:]


def sides(kept: int) -> tuple[slice, slice]:
    return slice(kept), slice(-kept, None)


def facts(name: str, pairs: list[tuple[str, str]]) -> Counter:
    """What happened to words, as often as it did."""
    found: Counter = Counter()
    for shown, word in pairs:
        if name == "cycle_letters_in_word":
            by = [k for k in range(len(word)) if word[k:] + word[:k] == shown]
            found["none" if 0 in by else "cycled" if by else "broken"] += 1
            found["by one"] += 1 in by
        elif name in KEPT:
            same = all(shown[part] == word[part] for part in sides(KEPT[name]))
            found["kept" if same and sorted(shown) == sorted(word) else "broken"] += 1
            found["same"] += shown == word
            found["another next"] += shown[KEPT[name]] != word[KEPT[name]]
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


def test_an_anagram_keeps_its_ends_and_is_another_word_where_there_is_one():
    random = np.random.default_rng(0)
    for kept, anagram in ((1, inner_anagram), (2, deep_anagram)):
        for word in ("layers", "vocabulary", "country"):
            found = {anagram(word, random) for _ in range(40)}
            assert all(shown[part] == word[part] for shown in found for part in sides(kept))
            assert {"".join(sorted(shown)) for shown in found} == {"".join(sorted(word))}
            assert word not in found
        assert len({shown[kept] for shown in found}) == 7 - 2 * kept  # any inner letter is next
    assert deep_anagram("yellow", random) == "yellow" != inner_anagram("yellow", random)


@pytest.mark.parametrize("name", SCRAMBLES)
def test_words_without_a_file_are_of_the_lengths_of_the_paper_and_scrambled_alike(name):
    rows = scrambled(name, 500, seed=0)
    pairs = list(map(split, rows))
    words = [word for _, word in pairs]
    assert len(set(words)) == 500 and all(word.isalpha() and word.islower() for word in words)
    lengths = set(map(len, words))
    assert min(lengths) == (5 if name == "mid_word_1_anagrams" else 6) and max(lengths) <= 14
    found = facts(name, pairs)
    assert found["broken"] == 0 and (name not in KEPT or found["another next"] > 200)
    assert rows == scrambled(name, 500, seed=0) != scrambled(name, 500, seed=1)
    assert {"function", "default"} < set(words) and words != sorted(words)
    with pytest.raises(ConfigError, match=f"900000 words of {name}: the library has"):
        scrambled(name, 900_000, seed=0)
