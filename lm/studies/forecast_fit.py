"""What a law that was fitted to small runs says of a larger one, and between what it should lie.

Loss: L = a C^b + c. Programs: -log of the pass rate, averaged over problems, = alpha C^-k. Both are
the GPT-4 report's (sections 3.1 and 3.2), with C in units of the run that is to be foretold. The
report prints no interval; here it is one of prediction: of a single new run, not of the law.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lm.core.errors import DataError
from lm.evals.programs.pass_rate import pass_at_k
from lm.studies.scaling import Law, fit, fit_irreducible, logarithms, solved, student

WIDEST = 100.0  # factor on both sides of the prediction within which an interval is looked for


@dataclass(frozen=True)
class Prediction:
    """A law's value at one compute, and between what a run of it should come out."""

    law: Law
    at: float
    value: float
    low: float
    high: float


def predict_loss(
    compute: ArrayLike, loss: ArrayLike, at: float = 1.0, confidence: float = 0.95
) -> Prediction:
    """The loss of a run of compute `at` by L = a C^b + c. [N], [N]

    The interval holds the losses that, as a further point, would raise the least sum of squared
    relative errors by no more than Student's share: for a law that is linear in its parameters,
    this is the interval of prediction of the textbooks.

    Raises:
      DataError: as `fit_irreducible`.
    """
    law = fit_irreducible(compute, loss, confidence=confidence)
    x, y = logarithms(compute, loss, least=4)
    free = len(x) - 3
    least = float(solved(x, y)[0].min())
    allowed = least * (1 + student(confidence, free) ** 2 / free) + 1e-18
    value = float(law(at))

    def inside(factor: float) -> bool:
        longer = np.append(x, math.log(at)), np.append(y, math.log(value * factor))
        return float(solved(*longer)[0].min()) <= allowed

    low, high = (value * edge(inside, 1 / WIDEST), value * edge(inside, WIDEST))
    return Prediction(law, at, value, low, high)


def edge(inside: Callable[[float], bool], far: float) -> float:
    """The factor between 1 and `far` up to which `inside` is true."""
    if inside(far):
        return far
    near, beyond = 0.0, math.log(far)
    for _ in range(24):  # to less than a millionth
        middle = (near + beyond) / 2
        if inside(math.exp(middle)):
            near = middle
        else:
            beyond = middle
    return math.exp(near)


def predict_rate(
    compute: ArrayLike, minus_log: ArrayLike, at: float = 1.0, confidence: float = 0.95
) -> Prediction:
    """The mean of -log pass rate of a run of compute `at` by alpha C^-k, by least squares of the
    logarithms, with the interval of prediction of a straight line. [N], [N]

    Raises:
      DataError: as `fit`.
    """
    law = fit(compute, minus_log, confidence=confidence)
    x, _ = logarithms(compute, minus_log, least=3)
    spread = x - x.mean()
    away = (math.log(at) - x.mean()) ** 2 / float(spread @ spread)
    half = student(confidence, len(x) - 2) * law.error * math.sqrt(1 + 1 / len(x) + away)
    value = float(law(at))
    return Prediction(law, at, value, value * math.exp(-half), value * math.exp(half))


def minus_log_rates(passed: ArrayLike, samples: ArrayLike) -> np.ndarray:
    """-log of the pass rate, pass@1, of each problem. [P], [P] -> [P]

    Raises:
      DataError: a problem that was never solved: its rate has no logarithm.
    """
    rates = pass_at_k(samples, passed, 1)
    if not (rates > 0).all():
        raise DataError(f"{int((rates <= 0).sum())} problems were never solved: leave them out")
    return -np.log(rates)


def solved_by_all(passed: Sequence[ArrayLike]) -> np.ndarray:
    """Which problems every model solves at least once. [P] bool of some [P]"""
    return np.all([np.asarray(each) > 0 for each in passed], axis=0)


def buckets(rates: np.ndarray, kept: np.ndarray, count: int = 3) -> list[np.ndarray]:
    """The kept problems from easy to hard in parts of equal size, by their mean rate over models.

    Args:
      rates: pass rates. [M P]
      kept: [P] bool
    """
    numbers = np.flatnonzero(kept)
    order = numbers[np.argsort(-rates[:, numbers].mean(0), kind="stable")]
    return [np.sort(part) for part in np.array_split(order, count)]
