"""Correlation of predicted numbers with given ones: what STS-B is scored by."""

import numpy as np
from numpy.typing import ArrayLike

from lm.core.errors import DataError
from lm.metrics.classes import paired


def pearson(predictions: ArrayLike, references: ArrayLike) -> float:
    """Product-moment correlation (Pearson 1895). [N], [N] -> scalar

    Where one side is constant it is not defined, and 0 here: a run that collapsed has a score.

    Raises:
      DataError: a number is not finite, nothing to score, or lengths that differ.
    """
    predicted, right = (side.astype(np.float64) for side in paired(predictions, references))
    if not (np.isfinite(predicted).all() and np.isfinite(right).all()):
        raise DataError("a prediction or a reference is not finite: its correlation is not defined")
    if (predicted == predicted[0]).all() or (right == right[0]).all():
        return 0.0
    one, other = (_unit(side) for side in (predicted, right))
    return float(np.clip(one @ other, -1, 1))


def _unit(values: np.ndarray) -> np.ndarray:
    """Centred, of length 1. The largest is scaled to 1 first, so that no square overflows."""
    values = values / np.abs(values).max()
    values = values - values.mean()
    return values / np.linalg.norm(values)


def spearman(predictions: ArrayLike, references: ArrayLike) -> float:
    """Pearson's correlation of the ranks (Spearman 1904), ties at their mean rank."""
    predicted, right = paired(predictions, references)
    return pearson(ranks(predicted), ranks(right))


def ranks(values: ArrayLike) -> np.ndarray:
    """The rank of each value, from 1; equal values share the mean of their ranks. [N]

    Values that are not finite keep their NaN, so that the correlation refuses them.
    """
    values = np.asarray(values, np.float64)
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found = (last - (counts - 1) / 2)[group]
    return np.where(np.isfinite(values), found, np.nan)
