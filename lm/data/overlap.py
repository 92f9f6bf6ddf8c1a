"""Which texts share a run of words with a corpus: GPT-3's measure of contamination.

    index = GramIndex(questions)               # of the test sets: small, and all that is held
    index.scan(d.text for d in documents)      # of the training text: a stream of any length
    index.contaminated()                       # which questions stand in it

A gram is 13 words in a row, or as few as `gram_words` says of a test set, lower case and without
punctuation (Brown et al. 2020, appendix C). It is kept as 64 bits, so that the index takes some 20
bytes a gram; a word of text is met by chance with a probability of 10^-13 where the index has a
million.
"""

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lm.core.config import require

WORDS, SHORTEST = 13, 8  # of a gram
COMMON = 10  # documents: what more of them share is a phrase of the language, or boilerplate
PIECE = 1 << 20  # characters looked up in one go, and a word more
FACTOR = np.uint64(0x9E3779B97F4A7C15)
WORD, GAP = re.compile(r"\S+"), re.compile(r"\s")

Span = tuple[int, int]  # the first character, and the one after the last


class GramIndex:
    """The grams of some texts, to be looked up in others."""

    def __init__(
        self, texts: Iterable[str], words: int | Sequence[int] = WORDS, shortest: int = SHORTEST
    ):
        """
        Args:
          texts: only their hashes are held.
          words: of a gram; of those of each text, where there are several.
          shortest: a text of fewer words than a gram is one gram, whole; one of fewer than these
            words has none.
        """
        sizes = {words} if isinstance(words, int) else {WORDS, *words}
        least, self.words = min(sizes), max(sizes)
        require(1 <= shortest <= least, f"shortest {shortest} must be in 1..{least} (words)")
        self.texts = self.short = 0  # how many, and how many of them have no gram
        found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        for number, text in enumerate(texts):
            self.texts += 1
            most = words if isinstance(words, int) else words[number]
            hashes = np.concatenate([np.empty(0, np.uint64), *(part for part, _ in runs(text, 1))])
            length = min(most, len(hashes))
            if length < shortest:
                self.short += 1
                continue
            grams = np.unique(gram_hashes(hashes, length))
            found.setdefault(length, []).append((grams, np.full(len(grams), number, np.int32)))
        self.lengths = {length: Grams.of(parts) for length, parts in found.items()}

    def scan(self, documents: Iterable[str]) -> int:
        """Counts for each gram the documents that have it, and returns how many were read."""
        count = 0
        for text in documents:
            count += 1
            places: dict[int, list[np.ndarray]] = {}
            for length, at, _ in self.hits(text):
                places.setdefault(length, []).append(at)
            for length, parts in places.items():  # once a document, however often they stand there
                self.lengths[length].documents[np.unique(np.concatenate(parts))] += 1
        return count

    def hits(self, text: str) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Where grams of the index stand in a text, in pieces: the length of them all, each one's
        place in `lengths[length]`, and the number of its first word."""
        for hashes, first in runs(text, self.words):
            for length, grams in self.lengths.items():
                at = grams.find(gram_hashes(hashes, length))
                here = np.flatnonzero(at >= 0)
                if len(here):
                    yield length, at[here], here + first

    def positions(self, text: str, most: int | None = None) -> list[Span]:
        """The stretches of a text that grams of the index cover, in order and apart.

        `most`: grams that `scan` found in more documents are left out.
        """
        found: list[Span] = []  # first and last word
        for length, at, words in self.hits(text):
            kept = np.full(len(at), True)
            if most is not None:
                kept = self.lengths[length].documents[at] <= most
            found += [(word, word + length - 1) for word in words[kept].tolist()]
        if not found:
            return []
        spans = [m.span() for m in WORD.finditer(text) if word_hash(m.group())]
        return merged((spans[first][0], spans[last][1]) for first, last in found)

    def contaminated(self, most: int | None = COMMON) -> np.ndarray:
        """Which of the indexed texts have a gram in what was scanned. [texts] bool

        `most`: a gram that is in more documents is no sign; None counts them all.
        """
        flags = np.zeros(self.texts, bool)
        for grams in self.lengths.values():
            sign = grams.documents > 0
            if most is not None:
                sign &= grams.documents <= most
            flags[grams.text[sign[grams.gram]]] = True
        return flags

    def shares(self) -> list[float | None]:
        """Of each indexed text's different grams, the share that was found in what was scanned;
        None of a text that has none. [texts]"""
        found, every = np.zeros(self.texts), np.zeros(self.texts)
        for grams in self.lengths.values():
            sign = grams.documents[grams.gram] > 0
            found += np.bincount(grams.text, sign, self.texts)
            every += np.bincount(grams.text, minlength=self.texts)
        pairs = zip(found.tolist(), every.tolist(), strict=True)
        return [some / of if of else None for some, of in pairs]

    def common(self, most: int = COMMON) -> int:
        """How many grams were found in more than `most` documents."""
        return sum(int((grams.documents > most).sum()) for grams in self.lengths.values())


@dataclass(frozen=True)
class Grams:
    """The different grams of one length, sorted, and what is known of each."""

    hashes: np.ndarray  # [G] uint64
    documents: np.ndarray  # [G] int32: in how many scanned documents each was found
    gram: np.ndarray  # [P] int32: pairs of a gram ...
    text: np.ndarray  # [P] int32: ... and an indexed text that has it

    @classmethod
    def of(cls, parts: list[tuple[np.ndarray, np.ndarray]]) -> "Grams":
        """From each text's grams and its number, repeated."""
        hashes, gram = np.unique(np.concatenate([p[0] for p in parts]), return_inverse=True)
        text = np.concatenate([p[1] for p in parts])
        return cls(hashes, np.zeros(len(hashes), np.int32), gram.astype(np.int32), text)

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """The place of each hash, or -1. [W] int64"""
        order = np.argsort(hashes)  # sorted, they are looked up along the index, not across it
        at = np.empty(len(hashes), np.int64)
        at[order] = np.searchsorted(self.hashes, hashes[order])
        at[at == len(self.hashes)] = 0
        return np.where(self.hashes[at] == hashes, at, -1)


def gram_words(texts: Iterable[str], least: int = SHORTEST, most: int = WORDS) -> int:
    """The words of a gram for one test set: the 5th percentile of its texts' lengths, between
    `least` and `most` (appendix C)."""
    lengths = [word_count(text) for text in texts]
    return int(np.clip(np.percentile(lengths or [most], 5), least, most))


def word_count(text: str) -> int:
    """The words of a text of which something is left without punctuation."""
    return sum(len(hashes) for hashes, _ in runs(text, 1))


def runs(text: str, words: int) -> Iterator[tuple[np.ndarray, int]]:
    """The hashes of a text's words, some at a time, and the number of the first of them. [W] uint64

    Each part but the first begins with the last `words - 1` of the one before it, so that no run of
    `words` is cut, however long the text is. A text of fewer words is one part.
    """
    kept, first, whole = np.empty(0, np.uint64), 0, True
    start = 0
    while start < len(text):
        gap = GAP.search(text, start + PIECE)
        end = gap.start() if gap else len(text)
        some = np.fromiter(map(word_hash, text[start:end].split()), np.uint64)
        kept = np.concatenate([kept, some[some > 0]])
        if len(kept) >= words:
            yield kept, first
            first, whole = first + len(kept) - words + 1, False
            kept = kept[len(kept) - words + 1 :]
        start = end
    if whole and len(kept):
        yield kept, first


@functools.lru_cache(maxsize=1 << 18)
def word_hash(word: str) -> int:
    """64 bits of a word in lower case and without punctuation; 0 where nothing is left of it."""
    kept = word.lower()
    if not kept.isalnum():
        kept = "".join(filter(str.isalnum, kept))
    return stable_hash(kept) if kept else 0


def stable_hash(text: str) -> int:
    """64 bits of a text, the same in every process, never 0."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def gram_hashes(words: np.ndarray, length: int) -> np.ndarray:
    """A hash of every run of `length` words. [W] uint64 -> [max(0, W - length + 1)] uint64"""
    count = max(0, len(words) - length + 1)
    total = np.zeros(count, np.uint64)
    for offset in range(length):
        total = total * FACTOR + words[offset : offset + count]
    return total


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same stretches, in order, with those that touch made one."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out
