"""Small tasks to be learned, or told, from examples in the text, in the text form of GPT-3's own.

A document holds examples of one task and nothing else, as GPT-3's prompts do (Brown et al. 2020,
appendix G and the released files): "\\nrslaye = layers", or "\\n\\nQ: What is 3 plus 4?\\n\\nA: 7".
Four families differ in what the examples are needed for:

    mapping     the answer is nowhere but in the examples: what four things go with
    operation   the examples tell which operation on a string of letters is meant
    word        the examples tell how a word was scrambled (section 3.9.2); words are shorter here
    arithmetic  the question says all (section 3.9.1); numbers have one digit here

What the two parts are made of is disjoint: words, strings, pairs of numbers, and whole mappings, so
that no answer at test can be known from training.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Literal

import numpy as np

from lm.data.scrambles import Scramble, cycled, inner_anagram, inserted, reversed_letters
from lm.data.tokens import Part

Family = Literal["mapping", "operation", "word", "arithmetic"]
LETTERS = "abcdefgh"  # of strings: few, so that a tiny model meets each of them often
STRING = 3  # letters of a string
KEYS = 4  # things that a mapping maps
JOINTS = ((" =", " "), (" =", ""), ("=", ""), ("", ""))  # between the two; GPT-3's first
ANIMALS = "ant bat cat cow dog eel elk emu fox hen owl pig"
THINGS = "bag box cup hat ink jar key map nut pen sun toy"
HELD_OUT = 5  # one in five words, strings and pairs is for test


@dataclasses.dataclass(frozen=True)
class Example:
    """A question as it stands in a text, and the answer that follows it."""

    question: str
    answer: str

    @property
    def text(self) -> str:
        return self.question + self.answer


Rule = Callable[[Random], Example]  # draws an example of one task


@dataclasses.dataclass(frozen=True)
class Stock:
    """What examples of one part may be made of."""

    part: Part
    words: tuple[str, ...]  # of this part alone

    def has(self, thing: str) -> bool:
        """Whether a string, or a pair written as one, belongs to this part."""
        return held_out(thing) == (self.part == "valid")

    def letters(self, random: Random, length: int) -> str:
        """A string of letters of this part."""
        while not self.has(made := "".join(random.choices(LETTERS, k=length))):
            pass
        return made


@functools.lru_cache(maxsize=1 << 16)
def held_out(thing: str) -> bool:
    """Whether this is for test, by a hash: the same everywhere, whatever else there is."""
    return hashlib.sha256(thing.encode()).digest()[0] % HELD_OUT == 0


@dataclasses.dataclass(frozen=True)
class Puzzle:
    """A kind of task. `rule` draws one task of the kind, which then draws examples."""

    name: str
    family: Family
    rule: Callable[[Random, Stock], Rule]


def line(shown: str, meant: str) -> Example:
    """GPT-3's word tasks: one example a line."""
    return Example(f"\n{shown} =", f" {meant}")


# ---------------------------------------------------------------------- mapping


def mapping(keys: str, values: str) -> Callable[[Random, Stock], Rule]:
    """A random function from four of some things to others, of which two may be the same.

    In training it is written in several ways, the closest of which, "ax", is the easiest to learn
    and the first; at test in GPT-3's alone.
    """
    shown, meant = keys.split(), values.split()

    def rule(random: Random, stock: Stock) -> Rule:
        while True:
            table = {key: random.choice(meant) for key in random.sample(shown, KEYS)}
            if stock.has(" ".join(f"{key} {table[key]}" for key in sorted(table))):
                break
        joint, space = random.choice(JOINTS) if stock.part == "train" else JOINTS[0]

        def draw(random: Random) -> Example:
            key = random.choice(list(table))
            return Example(f"\n{key}{joint}", space + table[key])

        return draw

    return rule


# -------------------------------------------------------------------- operation


def operation(change: Callable[[str], str]) -> Callable[[Random, Stock], Rule]:
    """A string of letters, and what is made of it."""

    def rule(_: Random, stock: Stock) -> Rule:
        def draw(random: Random) -> Example:
            shown = stock.letters(random, STRING)
            return line(shown, change(shown))

        return draw

    return rule


# ------------------------------------------------------------------------- word


def scrambled(change: Scramble) -> Callable[[Random, Stock], Rule]:
    """A scrambled word, and the word."""

    def rule(_: Random, stock: Stock) -> Rule:
        def draw(random: Random) -> Example:
            word = random.choice(stock.words)
            return line(change(word, np.random.default_rng(random.getrandbits(64))), word)

        return draw

    return rule


# ------------------------------------------------------------------- arithmetic


def sums(name: str, result: Callable[[int, int], int]) -> Callable[[Random, Stock], Rule]:
    """Two numbers of one digit; a pair of them is in one part only, whichever comes first, and in
    the same one for every operation."""

    def rule(_: Random, stock: Stock) -> Rule:
        def draw(random: Random) -> Example:
            while True:
                a, b = random.randrange(10), random.randrange(10)
                if stock.has(f"{min(a, b)} {max(a, b)}"):
                    return Example(f"\n\nQ: What is {a} {name} {b}?\n\nA:", f" {result(a, b)}")

        return draw

    return rule


PUZZLES = (
    Puzzle("letters", "mapping", mapping(" ".join(ascii_lowercase), " ".join(ascii_uppercase))),
    Puzzle("digits", "mapping", mapping(" ".join(ascii_lowercase), " ".join(digits))),
    Puzzle("words", "mapping", mapping(ANIMALS, THINGS)),
    Puzzle("copy", "operation", operation(lambda text: text)),
    Puzzle("reverse", "operation", operation(lambda text: text[::-1])),
    Puzzle("cycle", "operation", operation(lambda text: text[1:] + text[0])),
    Puzzle("cycled word", "word", scrambled(cycled)),
    Puzzle("anagram", "word", scrambled(inner_anagram)),
    Puzzle("insertion", "word", scrambled(inserted)),
    Puzzle("reversed word", "word", scrambled(reversed_letters)),
    Puzzle("plus", "arithmetic", sums("plus", lambda a, b: a + b)),
    Puzzle("minus", "arithmetic", sums("minus", lambda a, b: a - b)),
)
