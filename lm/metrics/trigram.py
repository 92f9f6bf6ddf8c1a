"""A byte trigram model: the least that a neural language model must beat on the same text.

Counting is enough to fit it and no knob has to be chosen, so its bits a byte say how much of a
text can be had without learning anything.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from lm.core.errors import DataError

BLOCK_BYTES = 1 << 21  # chunks are joined up to this size: few large array operations


class WittenBell:
    """Interpolated Witten-Bell byte trigram (Witten & Bell 1991, method C, made recursive).

        P(w | h) = (c(hw) + T(h) P(w | h')) / (c(h) + T(h))

    `c(hw)` counts the byte `w` after the context `h`, `c(h)` is its sum over `w`, `T(h)` is the
    number of different bytes seen after `h`, and `h'` is `h` without its oldest byte. It goes from
    two bytes of context to one, to none, to the uniform 1/256. Where `h` was never seen,
    P(w | h) = P(w | h'). A chunk is a document: the context starts empty, so its first byte is
    scored by P(w) and its second by P(w | one byte); no context crosses from chunk to chunk.
    """

    def __init__(self) -> None:
        self.unigrams = np.zeros(256, np.int64)
        self.bigrams = np.zeros((256, 256), np.int64)
        self.trigrams = np.zeros((256 * 256, 256), np.uint32)  # 64 MB
        self._interpolate()

    def fit(self, chunks: Iterable[bytes]) -> "WittenBell":
        """Adds the counts of `chunks` and returns itself."""
        for codes, order in _blocks(chunks):
            self.unigrams += np.bincount(codes & 0xFF, minlength=256)
            pairs = codes[order >= 2] & 0xFFFF
            self.bigrams += np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
            triples = np.bincount(codes[order == 3], minlength=1 << 24).reshape(-1, 256)
            np.add(self.trigrams, triples, out=self.trigrams, casting="unsafe")
        self._interpolate()
        return self

    def bits_per_byte(self, chunks: Iterable[bytes]) -> float:
        """-log2 P(chunks), divided by their bytes."""
        bits, total = 0.0, 0
        for codes, order in _blocks(chunks):
            ones, twos, threes = codes[order == 1], codes[order == 2] & 0xFFFF, codes[order == 3]
            bits -= np.log2(self.after_none[ones & 0xFF]).sum()
            bits -= np.log2(self.after_one.ravel()[twos]).sum()
            bits -= np.log2(self._after_two(threes)).sum()
            total += len(codes)
        if not total:
            raise DataError("no text to score: bits a byte of zero bytes are not defined")
        return float(bits / total)

    def probabilities(self, context: bytes) -> np.ndarray:
        """P(w | the last two bytes of `context`) for every byte w. [256]"""
        if not context:
            return self.after_none
        if len(context) == 1:
            return self.after_one[context[0]]
        return self._after_two((context[-2] << 16) + (context[-1] << 8) + np.arange(256))

    def _interpolate(self) -> None:
        """Makes the tables of the lower orders, and what the highest divides by."""
        self.after_none = _mix(
            self.unigrams, self.unigrams.sum(), np.count_nonzero(self.unigrams), 1 / 256
        )
        self.after_one = _mix(
            self.bigrams,
            self.bigrams.sum(axis=1, keepdims=True),
            np.count_nonzero(self.bigrams, axis=1, keepdims=True),
            self.after_none,
        )
        self.totals = self.trigrams.sum(axis=1, dtype=np.int64)
        self.followers = np.count_nonzero(self.trigrams, axis=1)

    def _after_two(self, codes: np.ndarray) -> np.ndarray:
        """P of the last byte of each three-byte code, given the two before it."""
        context, lower = codes >> 8, self.after_one.ravel()[codes & 0xFFFF]
        counts = self.trigrams.ravel()[codes]
        return _mix(counts, self.totals[context], self.followers[context], lower)


def _mix(counts, total, followers, lower) -> np.ndarray:
    """The formula above; `lower` itself where the context was never seen."""
    weight = total + followers
    seen = np.maximum(weight, 1)
    return np.where(weight > 0, (counts + followers * lower) / seen, lower)


def _blocks(chunks: Iterable[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every byte as the code of itself and the two before it, and how many of the three count.

    Whole chunks are joined; `order` is 1 at the first byte of a chunk, 2 at the second, then 3.
    """
    for group in _groups(chunks):
        text = np.frombuffer(b"".join(group), np.uint8).astype(np.int64)
        codes = text.copy()
        codes[1:] |= text[:-1] << 8
        codes[2:] |= text[:-2] << 16
        ends = np.cumsum([len(chunk) for chunk in group])
        starts = ends - [len(chunk) for chunk in group]
        order = np.full(len(text), 3, np.int8)
        order[(starts + 1)[starts + 1 < ends]] = 2
        order[starts] = 1
        yield codes, order


def _groups(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Non-empty chunks in lists of about `BLOCK_BYTES`; a longer chunk is a list of its own."""
    group: list[bytes] = []
    size = 0
    for chunk in chunks:
        if not chunk:
            continue
        if group and size + len(chunk) > BLOCK_BYTES:
            yield group
            group, size = [], 0
        group.append(chunk)
        size += len(chunk)
    if group:
        yield group
