"""Whether what a model holds likely is as often right as it says (Guo et al. 2017).

A reliability curve sorts statements, each with a confidence and a truth, into bins of equal width
of the confidence, and compares the mean confidence of a bin with the share that is right. ECE is
the mean distance of the two, weighted by the bins' counts. For multiple choice there are two
readings: every choice of every question is a statement (figure 8 of the GPT-4 report), or only the
likeliest one is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lm.core.config import require
from lm.metrics.spread import bootstrap_error, by_group

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """A curve. Where a bin is empty, confidence and share are NaN. [K] each"""

    counts: np.ndarray
    confidence: np.ndarray  # mean in the bin
    right: np.ndarray  # share in the bin

    @property
    def ece(self) -> float:
        """Expected calibration error, as a fraction."""
        there = self.counts > 0
        away = np.abs(self.confidence[there] - self.right[there])
        return float((self.counts[there] * away).sum() / self.counts.sum())

    def figures(self) -> dict[str, object]:
        """For JSON: only bins that hold something, `places` of all the bins."""
        there = self.counts > 0
        return {
            "bins": len(self.counts),
            "places": np.flatnonzero(there).tolist(),
            "counts": self.counts[there].tolist(),
            "confidence": self.confidence[there].tolist(),
            "right": self.right[there].tolist(),
            "ece": self.ece,
        }


def reliability(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> Reliability:
    """The curve of some statements in bins of equal width over 0..1, each open below but the first.
    [N], [N] bool

    Raises:
      ConfigError: no statement, or a confidence that is none.
    """
    p, truth = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    require(p.ndim == 1 and p.shape == truth.shape and len(p) > 0, "no statements to bin")
    require(bool(((p >= 0) & (p <= 1)).all()), "a confidence is not in 0..1")
    place = places(p, bins)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            counts,
            np.bincount(place, p, minlength=bins) / counts,
            np.bincount(place, truth, minlength=bins) / counts,
        )


def places(p: np.ndarray, bins: int) -> np.ndarray:
    """Of the bins of confidences. [N]"""
    return np.clip(np.ceil(p * bins).astype(np.int64) - 1, 0, bins - 1)


def pooled(told: Sequence[Mapping[str, Any]]) -> Reliability:
    """The curve of all the statements of several curves, from the `figures` of each."""
    sums = np.zeros((3, BINS))
    for one in told:
        shares = [np.ones(len(one["counts"])), one["confidence"], one["right"]]
        sums[:, one["places"]] += np.array(one["counts"]) * np.array(shares)
    counts = sums[0].astype(np.int64)
    with np.errstate(invalid="ignore"):
        return Reliability(counts, sums[1] / counts, sums[2] / counts)


def of_choices(
    probabilities: Sequence[Sequence[float]], golds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Every choice of every question as a statement: its probability, and whether it is right."""
    right = [
        n == gold for row, gold in zip(probabilities, golds, strict=True) for n in range(len(row))
    ]
    return np.concatenate([np.asarray(row, np.float64) for row in probabilities]), np.array(right)


def of_answers(
    probabilities: Sequence[Sequence[float]], golds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest choice of each question as a statement."""
    best = [int(np.argmax(row)) for row in probabilities]
    confidence = [row[n] for row, n in zip(probabilities, best, strict=True)]
    return np.array(confidence), np.array(best) == np.array(golds)


@dataclass(frozen=True)
class Question:
    """What was answered to one."""

    probabilities: Sequence[float]  # of the choices
    gold: int
    group: str = ""  # what varies together in the errors; "": it stands alone


def accuracy(sums: np.ndarray) -> float:
    """Of what the likeliest choices have in the bins. [3 K]"""
    return float(sums[2].sum() / sums[0].sum())


def ece(sums: np.ndarray) -> float:
    """The same as of a curve. [3 K]"""
    return float(np.abs(sums[1] - sums[2]).sum() / sums[0].sum())


READINGS = (of_choices, of_answers)
MEASURES = {"accuracy": (1, accuracy), "choices": (0, ece), "answers": (1, ece)}  # of a reading


def sums_of(questions: Sequence[Question]) -> np.ndarray:
    """What each question has in the bins, by reading: how many statements, their confidences and
    how many are right. [N 2 3 K]"""
    rows, golds = [each.probabilities for each in questions], [each.gold for each in questions]
    table = np.zeros((len(rows), 2, 3, BINS))
    for reading, statements in enumerate(READINGS):
        p, right = statements(rows, golds)
        sizes = [len(row) if statements is of_choices else 1 for row in rows]
        question = np.repeat(np.arange(len(rows)), sizes)
        for kind, values in enumerate((np.ones(len(p)), p, right)):
            np.add.at(table[:, reading, kind], (question, places(p, BINS)), values)
    return table


def errors(questions: Sequence[Question]) -> dict[str, float | None]:
    """Standard errors of the accuracy and of the ECE of both readings, by bootstrap over groups of
    questions; None of fewer than two groups. That of an ECE near 0 is too large: by chance an ECE
    is only higher."""
    parts = by_group(sums_of(questions), [each.group for each in questions])
    return {
        name: bootstrap_error(score, parts[:, reading]) if len(parts) > 1 else None
        for name, (reading, score) in MEASURES.items()
    }


def changes(
    before: Sequence[Question], after: Sequence[Question]
) -> dict[str, tuple[float, float | None]]:
    """By how much each of these is larger after than before on the same questions, and the standard
    error of that, by bootstrap over groups of questions, each drawn with both answers."""
    both = np.stack([sums_of(before), sums_of(after)], axis=1)
    parts, found = by_group(both, [each.group for each in before]), {}
    for name, (reading, score) in MEASURES.items():

        def change(sums: np.ndarray, score: Callable[[np.ndarray], float] = score) -> float:
            return score(sums[1]) - score(sums[0])

        some = parts[:, :, reading]
        error = bootstrap_error(change, some) if len(some) > 1 else None
        found[name] = change(some.sum(axis=0)), error
    return found
