"""GPT-3's five word tasks, made anew (Brown et al. 2020, section 3.9.2).

A word is shown scrambled, and is to be written as it was. How often what happens is that of the
released files: letters are cycled by any number but none, anagrams of all inner letters are never
the word itself, those that keep two at each end may be, and one of four marks stands between every
two letters.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from lm.core.errors import ConfigError, DataError

MARKS = (" ", ".", "/", "!")
Scramble = Callable[[str, np.random.Generator], str]


def cycled(word: str, random: np.random.Generator) -> str:
    by = int(random.integers(1, len(word)))
    return word[by:] + word[:by]


def inner_anagram(word: str, random: np.random.Generator) -> str:
    """All letters but the first and the last in another order, where there is another."""
    found = shuffled(word, 1, random)
    while found == word and len(set(word[1:-1])) > 1:
        found = shuffled(word, 1, random)
    return found


def core_anagram(word: str, random: np.random.Generator) -> str:
    """All letters but the first two and the last two, in any order."""
    return shuffled(word, 2, random)


def shuffled(word: str, kept: int, random: np.random.Generator) -> str:
    inner = random.permutation(list(word[kept:-kept]))
    return word[:kept] + "".join(inner) + word[-kept:]


def inserted(word: str, random: np.random.Generator) -> str:
    marks = random.choice(MARKS, len(word) - 1)
    return "".join(letter + mark for letter, mark in zip(word, marks, strict=False)) + word[-1]


def reversed_letters(word: str, random: np.random.Generator) -> str:
    return word[::-1]


SCRAMBLES: dict[str, tuple[Scramble, int]] = {  # by the released files: and the shortest word
    "cycle_letters_in_word": (cycled, 6),
    "mid_word_1_anagrams": (inner_anagram, 5),
    "mid_word_2_anagrams": (core_anagram, 6),
    "random_insertion_in_word": (inserted, 6),
    "reversed_words": (reversed_letters, 6),
}
LONGEST = 15  # letters


def scrambled(name: str, words: Iterable[str], count: int, seed: int) -> list[dict[str, str]]:
    """Different words of a list, scrambled, as rows of the released files.

    Args:
      name: of `SCRAMBLES`.
      words: the most frequent first; the paper's are the 10,000 most frequent of their length.
      count: the rows are of the first so many that are fit, in an order of chance.

    Raises:
      ConfigError: no such task.
      DataError: fewer fit words.
    """
    if name not in SCRAMBLES:
        raise ConfigError(f"unknown word task {name!r}; known: {', '.join(SCRAMBLES)}")
    scramble, shortest = SCRAMBLES[name]
    fit = list(dict.fromkeys(word for word in words if is_fit(word, shortest)))
    if len(fit) < count:
        raise DataError(f"{len(fit)} words of {shortest} to {LONGEST} letters, {count} are wanted")
    random = np.random.default_rng([seed, list(SCRAMBLES).index(name)])
    some: Sequence[str] = random.permutation(fit[:count]).tolist()
    return [{"context": f"\n{scramble(word, random)} =", "completion": f" {word}"} for word in some]


def is_fit(word: str, shortest: int) -> bool:
    return word.isascii() and word.isalpha() and word.islower() and shortest <= len(word) <= LONGEST
