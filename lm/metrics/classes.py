"""Scores of predicted classes. Fractions, not per cent.

GLUE (Wang et al. 2018, section 3) takes accuracy, F1 for MRPC and QQP, Matthews for CoLA.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lm.core.errors import DataError

POSITIVE = 1


def paired(predictions: ArrayLike, references: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of one length, which is not zero. Raises DataError where they are not."""
    predicted, right = np.asarray(predictions), np.asarray(references)
    if predicted.shape != right.shape or predicted.ndim != 1:
        raise DataError(f"predictions {predicted.shape} for references {right.shape}")
    if not len(right):
        raise DataError("no predictions to score")
    return predicted, right


def accuracy(predictions: ArrayLike, references: ArrayLike) -> float:
    """The part of the predictions that are right. [N], [N] -> scalar"""
    predicted, right = paired(predictions, references)
    return float((predicted == right).mean())


def f1(predictions: ArrayLike, references: ArrayLike) -> float:
    """The harmonic mean of precision and recall of class 1 (van Rijsbergen 1979); 0 without hits.

    Of two classes the second is the positive one, as in GLUE's MRPC and QQP, where it is
    "equivalent". [N], [N] -> scalar
    """
    return f1_of(POSITIVE, *paired(predictions, references))


def macro_f1(predictions: ArrayLike, references: ArrayLike) -> float:
    """The mean of the F1 of each class that is predicted or right anywhere, as scikit-learn's
    f1_score(average="macro") has it. [N], [N] -> scalar
    """
    predicted, right = paired(predictions, references)
    classes = np.unique(np.concatenate([predicted, right])).tolist()
    return float(np.mean([f1_of(k, predicted, right) for k in classes]))


def f1_of(k: int, predicted: np.ndarray, right: np.ndarray) -> float:
    """F1 of class k; 0 without hits."""
    hits = np.count_nonzero((predicted == k) & (right == k))
    named = np.count_nonzero(predicted == k) + np.count_nonzero(right == k)
    return float(2 * hits / max(int(named), 1))


def matthews(predictions: ArrayLike, references: ArrayLike) -> float:
    """The correlation of classes (Matthews 1975; for more than two, Gorodkin 2004's R_K).

        (n c - sum_k p_k t_k) / sqrt((n^2 - sum_k p_k^2) (n^2 - sum_k t_k^2))

    with `n` items, `c` of them right, `p_k` predicted and `t_k` truly of class k. It is 0 where
    one side is all of one class. [N], [N] -> scalar
    """
    predicted, right = paired(predictions, references)
    classes = np.unique(np.concatenate([predicted, right]))
    named = np.array([np.count_nonzero(predicted == k) for k in classes], np.float64)
    true = np.array([np.count_nonzero(right == k) for k in classes], np.float64)
    n, hits = len(right), np.count_nonzero(predicted == right)
    covariance = hits * n - named @ true
    spread = (n**2 - named @ named) * (n**2 - true @ true)
    return float(covariance / np.sqrt(spread)) if spread else 0.0


def tag_accuracy(predictions: Sequence[Sequence], references: Sequence[Sequence]) -> float:
    """The part of the words whose tag is right, over all sentences."""
    for number, (some, others) in enumerate(zip(predictions, references, strict=True)):
        if len(some) != len(others):
            raise DataError(f"sentence {number}: {len(some)} tags predicted for {len(others)}")
    return accuracy(
        [tag for tags in predictions for tag in tags], [tag for tags in references for tag in tags]
    )
