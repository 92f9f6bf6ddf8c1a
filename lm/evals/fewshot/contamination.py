"""Which items of an evaluation stand in the text that a model was trained on.

An item is overlapping where N words in a row of it, or all of an item of fewer, are in the training
text; N is the 5th percentile of the lengths of its task's items, between 8 and 13, and items of
fewer than 8 words cannot be told (Brown et al. 2020, appendix C; lm/data/overlap.py). What leaked
into many documents counts too: that a gram of more than ten is a mere phrase is a rule of what is
cut out of a training text (appendix A), not of this.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lm.data.overlap import SHORTEST, GramIndex, gram_words, word_count


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Of the items of one task."""

    found: np.ndarray  # [N] bool: in the training text
    long_enough: np.ndarray  # [N] bool: to be looked for

    @property
    def share(self) -> float | None:
        """Of the items that can be told; None where none can."""
        return float(self.found[self.long_enough].mean()) if self.long_enough.any() else None

    def of(self, numbers: Sequence[int], asked: Sequence[int]) -> "Overlap":
        """Of those items, whose numbers in the set are `numbers`, that were asked."""
        some = set(asked)
        kept = [number in some for number in numbers]
        return Overlap(self.found[kept], self.long_enough[kept])


def overlaps(texts: Mapping[str, Sequence[str]], documents: Iterable[str]) -> dict[str, Overlap]:
    """For each task's items, whether they are in the documents, which are read once."""
    words = [size for items in texts.values() for size in [gram_words(items)] * len(items)]
    index = GramIndex((text for items in texts.values() for text in items), words)
    index.scan(documents)
    flags = index.contaminated(most=None)
    found, first = {}, 0
    for name, items in texts.items():
        long_enough = np.array([word_count(text) >= SHORTEST for text in items], bool)
        found[name] = Overlap(flags[first : first + len(items)], long_enough)
        first += len(items)
    return found
