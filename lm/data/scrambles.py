"""How the words of GPT-3's five word tasks are scrambled (Brown et al. 2020, section 3.9.2).

How often what happens is that of the released files: letters are cycled by any number but none,
anagrams of all inner letters are never the word itself where they need not be, and one of four
marks stands between every two letters.

Rows made here have other words. The released sets are of the 10,000 most frequent of a list that is
not ours; these are of the words that stand in the most files of this Python's library, so that
another Python has some others. They have 6 letters or more, as the released ones, and 14 at most,
as the paper says; only anagrams of all letters but two are also of 5.
"""

import collections
import functools
import re
from collections.abc import Callable

import numpy as np

from lm.core.config import require
from lm.data.sources import STDLIB, documents

MARKS = (" ", ".", "/", "!")
WORD = re.compile(r"(?<![\w.])[a-z]+(?![\w(=])")  # as in prose: no attribute, call or argument
LONGEST = 14
Scramble = Callable[[str, np.random.Generator], str]


def cycled(word: str, random: np.random.Generator) -> str:
    by = int(random.integers(1, len(word)))
    return word[by:] + word[:by]


def inner_anagram(word: str, random: np.random.Generator, kept: int = 1) -> str:
    """All letters but the first and the last, or so many, in another order, where there is one."""
    found = word
    while found == word and len(set(word[kept:-kept])) > 1:
        found = word[:kept] + "".join(random.permutation(list(word[kept:-kept]))) + word[-kept:]
    return found


def deep_anagram(word: str, random: np.random.Generator) -> str:
    """All letters but the first two and the last two."""
    return inner_anagram(word, random, kept=2)


def inserted(word: str, random: np.random.Generator) -> str:
    marks = random.choice(MARKS, len(word) - 1)
    return "".join(letter + mark for letter, mark in zip(word, marks, strict=False)) + word[-1]


def reversed_letters(word: str, random: np.random.Generator) -> str:
    return word[::-1]


SCRAMBLES: dict[str, Scramble] = {  # by the names of the released files
    "cycle_letters_in_word": cycled,
    "mid_word_1_anagrams": inner_anagram,
    "mid_word_2_anagrams": deep_anagram,
    "random_insertion_in_word": inserted,
    "reversed_words": reversed_letters,
}


def scrambled(name: str, count: int, seed: int) -> list[dict[str, str]]:
    """Rows of one of `SCRAMBLES` as the released files have them, each of another word."""
    shortest = 5 if name == "mid_word_1_anagrams" else 6
    words = [word for word in frequent_words() if shortest <= len(word) <= LONGEST][:count]
    require(len(words) == count, f"{count} words of {name}: the library has {len(words)}")
    random = np.random.default_rng([seed, list(SCRAMBLES).index(name)])
    return [
        {"context": f"\n{SCRAMBLES[name](word, random)} =", "completion": f" {word}"}
        for word in random.permutation(words).tolist()
    ]


@functools.cache
def frequent_words() -> tuple[str, ...]:
    """Words of Python's own library, of which those in the most files come first."""
    found: collections.Counter[str] = collections.Counter()
    for document in documents(STDLIB):
        found.update(set(WORD.findall(document.text)))
    return tuple(sorted(found, key=lambda word: (-found[word], word)))
