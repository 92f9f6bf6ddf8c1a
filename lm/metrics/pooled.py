"""Scores of a whole set that are no mean over its items: BLEU, and F1 over options of questions
or over classes.

Of each item there are counts; a set has their sums, and its score is a function of these.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from lm.metrics.bleu import bleu_of_sums
from lm.metrics.spread import bootstrap_error


def f1a(sums: Sequence[int] | np.ndarray) -> float:
    """F1 of "this option is right" over all options of all questions (MultiRC's F1a; Khashabi et
    al. 2018, section 5). [3]: options rightly said to be right, said to be, and being right"""
    shared, said, right = map(float, sums)
    return 2 * shared / (said + right) if said + right else 1.0


def class_counts(classes: int, said: int, right: int) -> tuple[int, ...]:
    """What `macro_f1` sums up of one item: of each class, f1a's three. [3 classes]"""
    return tuple(
        int(each) for n in range(classes) for each in (said == right == n, said == n, right == n)
    )


def macro_f1(sums: Sequence[int] | np.ndarray) -> float:
    """Mean F1 of the classes that are said or right somewhere (CommitmentBank in SuperGLUE; Wang
    et al. 2019). [3 classes]"""
    each = [f1a(three) for three in np.reshape(sums, (-1, 3)) if three.any()]
    return float(np.mean(each))


POOLED: dict[str, Callable[[np.ndarray], float]] = {
    "bleu": bleu_of_sums, "f1a": f1a, "macro_f1": macro_f1,
}  # fmt: skip


def pooled(metric: str, counts: ArrayLike) -> tuple[float, float | None]:
    """The score of all items together, and its standard error by bootstrap over rows, each of an
    item or summed over a group of items; None of fewer than two rows. [N counts]"""
    table = np.array(counts, np.int64)
    score = POOLED[metric]
    return score(table.sum(axis=0)), bootstrap_error(score, table) if len(table) > 1 else None
