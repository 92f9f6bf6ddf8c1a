"""Words and their tokens, and the windows through which a model sees a text that is too long.

Words are what stands between blanks, encoded one by one, so that any tokenizer tells which tokens
are whose. A token that several windows show belongs to the one that shows most around it.
"""

import dataclasses
import itertools
import re
from collections.abc import Sequence

import numpy as np

from lm.data.sides import NONE
from lm.text.interface import Tokenizer


@dataclasses.dataclass(frozen=True)
class Passage:
    """A text, its tokens, and the way back from a token to the characters of its word."""

    text: str
    tokens: list[int]
    word: np.ndarray  # [T] int: the word of each token
    bounds: np.ndarray  # [words 2] int: a word's first character, and the one after its last

    def words(self, start: int, end: int) -> tuple[int, int] | None:
        """The first and the last word that have characters in `text[start:end]`; None: no word."""
        first = int(np.searchsorted(self.bounds[:, 1], start, side="right"))
        last = int(np.searchsorted(self.bounds[:, 0], end)) - 1
        return (first, last) if first <= last else None

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The tokens of words `first` to `last`: the first, and the one after the last."""
        edges = np.searchsorted(self.word, [first, last + 1])
        return int(edges[0]), int(edges[1])


@dataclasses.dataclass(frozen=True)
class PassageRows:
    """Which part of which passage each row of a span task shows."""

    ids: tuple[str, ...]  # of the items
    passages: tuple[Passage, ...]  # one an item
    begin: np.ndarray  # [N] int: where the passage's tokens begin in the row
    first: np.ndarray  # [N] int: which of the passage's tokens stands there
    size: np.ndarray  # [N] int: tokens of the passage in the row
    best: np.ndarray  # [N T] bool: tokens of the passage of which no row shows more around


@dataclasses.dataclass(frozen=True)
class WordRows:
    """Which word each position of a row of a tagging task is labelled for."""

    sizes: tuple[int, ...]  # words of each item
    item: np.ndarray  # [N T] int32, -1: the position is no word's
    word: np.ndarray  # [N T] int32, -1

    def tags(self, found: np.ndarray) -> list[np.ndarray]:
        """A tag for each word of each item from one a position, [N T]; -1: it has no token."""
        out = [np.full(size, NONE, np.int32) for size in self.sizes]
        for row, place in zip(*np.nonzero(self.item >= 0), strict=True):
            out[self.item[row, place]][self.word[row, place]] = found[row, place]
        return out


def encode_words(tokenizer: Tokenizer, texts: Sequence[Sequence[str]]) -> list[list[list[int]]]:
    """The tokens of each word of each text. A word is encoded once, however often it stands.

    A tokenizer that keeps blanks gets the one before each word but a text's first.
    """
    blank = " " if tokenizer.lossless else ""
    written = [[blank * (i > 0) + word for i, word in enumerate(text)] for text in texts]
    known = list(dict.fromkeys(itertools.chain.from_iterable(written)))
    ids = dict(zip(known, tokenizer.encode_batch(known), strict=True))
    return [[ids[word] for word in text] for text in written]


def passages(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Passage]:
    """Each text as words and tokens."""
    bounds = [[match.span() for match in re.finditer(r"\S+", text)] for text in texts]
    words = [[text[a:b] for a, b in some] for text, some in zip(texts, bounds, strict=True)]
    return [
        Passage(
            text,
            list(itertools.chain.from_iterable(ids)),
            np.repeat(np.arange(len(ids)), [len(piece) for piece in ids]),
            np.array(some, np.int64).reshape(-1, 2),
        )
        for text, ids, some in zip(texts, encode_words(tokenizer, words), bounds, strict=True)
    ]


def windows(total: int, room: int, stride: int) -> list[tuple[int, int]]:
    """First token and number of tokens of each window over `total` tokens (run_squad.py)."""
    out = [(0, min(room, total))]
    while sum(out[-1]) < total:
        first = out[-1][0] + min(room, stride)
        out.append((first, min(room, total - first)))
    return out


def owners(spans: Sequence[tuple[int, int]], total: int) -> np.ndarray:
    """The window that shows each token with "max context": most tokens on its poorer side. [T]

    A hundredth of a window's own length counts as well, and of equals the first is taken
    (run_squad.py, _check_is_max_context; here in hundredths, so that equals are equal).
    """
    first, size = np.array(spans).T[:, :, None]
    left = np.arange(total) - first  # [windows T]
    right = size - 1 - left
    score = 100 * np.minimum(left, right) + size
    return np.argmax(np.where((left >= 0) & (right >= 0), score, -1), axis=0)
