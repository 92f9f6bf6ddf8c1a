"""How the words of four of GPT-3's word tasks are scrambled (Brown et al. 2020, section 3.9.2).

How often what happens is that of the released files: letters are cycled by any number but none,
anagrams of all inner letters are never the word itself, and one of four marks stands between every
two letters.
"""

from collections.abc import Callable

import numpy as np

MARKS = (" ", ".", "/", "!")
Scramble = Callable[[str, np.random.Generator], str]


def cycled(word: str, random: np.random.Generator) -> str:
    by = int(random.integers(1, len(word)))
    return word[by:] + word[:by]


def inner_anagram(word: str, random: np.random.Generator) -> str:
    """All letters but the first and the last in another order, where there is another."""
    found = word
    while found == word and len(set(word[1:-1])) > 1:
        found = word[0] + "".join(random.permutation(list(word[1:-1]))) + word[-1]
    return found


def inserted(word: str, random: np.random.Generator) -> str:
    marks = random.choice(MARKS, len(word) - 1)
    return "".join(letter + mark for letter, mark in zip(word, marks, strict=False)) + word[-1]


def reversed_letters(word: str, random: np.random.Generator) -> str:
    return word[::-1]
