"""Documents that are nearly copies of earlier ones, by MinHash (Broder 1997) and LSH.

As GPT-3 has it (Brown et al. 2020, appendix A): ten hashes, within a set and against another one.
Its features were single words, whose sets are alike in any two long English texts, and its
threshold is not printed. Here a feature is five words in a row, and two documents are copies where
six of the ten minima agree: nearly always above a Jaccard similarity of 0.8, hardly ever below 0.2.
"""

import numpy as np

from lm.core.config import require
from lm.data.overlap import gram_hashes, runs
from lm.data.permutation import mix

HASHES, BANDS = 10, 5
SHINGLE = 5  # words
AGREE = 6  # of HASHES


class Duplicates:
    """The documents seen so far, as ten numbers each and where each of five pairs of them was seen:
    about 1,200 bytes of memory a document."""

    def __init__(self, shingle: int = SHINGLE, agree: int = AGREE):
        """
        Args:
          shingle: words in a row of a feature.
          agree: minima that two copies share; above BANDS, so that they share both of some band.
        """
        require(BANDS < agree <= HASHES, f"agree {agree} must be in {BANDS + 1}..{HASHES}")
        self.shingle, self.agree = shingle, agree
        self.signatures: list[np.ndarray] = []
        self.bands: list[dict[bytes, list[int]]] = [{} for _ in range(BANDS)]
        self.compared = 0  # pairs looked at: few, where the documents differ

    def seen(self, text: str) -> bool:
        """Whether a document is nearly a copy of one that was not; if it is none, remembers it.

        A document without words is never a copy.
        """
        found = signature(text, self.shingle)
        if found is None:
            return False
        keys = [part.tobytes() for part in found.reshape(BANDS, -1)]
        near = {i for band, key in zip(self.bands, keys, strict=True) for i in band.get(key, ())}
        self.compared += len(near)
        if any(int((self.signatures[i] == found).sum()) >= self.agree for i in near):
            return True
        self.remember(found)
        return False

    def remember(self, found: np.ndarray) -> None:
        """Takes a document's signature for one that was seen. [10]"""
        for band, part in zip(self.bands, found.reshape(BANDS, -1), strict=True):
            band.setdefault(part.tobytes(), []).append(len(self.signatures))
        self.signatures.append(found)


def signature(text: str, shingle: int = SHINGLE) -> np.ndarray | None:
    """The least of each of ten hashes over the runs of `shingle` words. [10] uint64

    A text with fewer words is one run; None where there is none.
    """
    least = np.full(HASHES, 2**64 - 1, np.uint64)
    some = False
    for words, _ in runs(text, shingle):
        grams = gram_hashes(words, min(shingle, len(words)))
        some = True
        for number in range(HASHES):
            least[number] = min(least[number], mix(grams, number + 1).min())
    return least if some else None
