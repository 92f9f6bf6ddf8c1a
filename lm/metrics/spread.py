"""How sure a mean is: over the items of a test, and over the seeds of a run."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from lm.core.errors import DataError


def standard_error(values: ArrayLike) -> float:
    """Of the mean of independent values: their standard deviation (N - 1) over sqrt(N). [N]

    Raises:
      DataError: fewer than two values have no spread.
    """
    values = _several(values)
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def ratio_error(amounts: ArrayLike, units: ArrayLike) -> float:
    """Standard error of all amounts over all units, summed over parts that are taken for
    independent (Cochran 1977, section 2.11). [N], [N]

    Raises:
      DataError: fewer than two parts have no spread.
    """
    over, under = _several(amounts), np.asarray(units, np.float64)
    total, count = under.sum(), len(over)
    residual = over - over.sum() / total * under
    return math.sqrt(count / (count - 1) * float(residual @ residual)) / float(total)


def by_group(values: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """The values summed over each group, in the order in which these come first; what is of group
    "" is a group of its own. [N ...], [N] -> [groups ...]"""
    places: dict[str | int, int] = {}
    at = [places.setdefault(group or n, len(places)) for n, group in enumerate(groups)]
    sums = np.zeros((len(places), *values.shape[1:]), values.dtype)
    np.add.at(sums, at, values)
    return sums


def bootstrap_interval(
    values: ArrayLike, *, confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Between what the mean lies with that confidence: percentiles of the means of samples drawn
    with replacement (Efron 1979). [N] -> low, high

    Raises:
      DataError: fewer than two values have no spread.
    """
    values = _several(values)
    random = np.random.default_rng(seed)
    # One sample at a time: all at once would be samples x N numbers.
    means = [values[random.integers(0, len(values), len(values))].mean() for _ in range(samples)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


NORMAL = 1.959964  # deviations on either side of a normal mean hold 0.95


def wilson_interval(rate: float, count: int) -> tuple[float, float]:
    """Between what the mean of `count` shares lies with a confidence of 0.95, were they yes or no
    (Wilson 1927): also of shares that are all the same, of which no sample differs."""
    more = NORMAL**2 / count
    middle = (rate + more / 2) / (1 + more)
    half = math.sqrt(more * (rate * (1 - rate) + more / 4)) / (1 + more)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap_error(
    score: Callable[[np.ndarray], float], counts: np.ndarray, *, samples: int = 1000, seed: int = 0
) -> float:
    """Standard error of a score of the sums over items: its standard deviation over samples of
    items drawn with replacement (Koehn 2004). [N counts]"""
    random = np.random.default_rng(seed)
    drawn = [
        score(counts[random.integers(0, len(counts), len(counts))].sum(axis=0))
        for _ in range(samples)
    ]
    return float(np.std(drawn, ddof=1))


def over_seeds(values: ArrayLike) -> tuple[float, float | None]:
    """Mean and standard deviation (N - 1) of one score in runs that differ by their seed.

    One run has no deviation: None.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        raise DataError("no runs to take the mean of")
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None


TIMES = 2.0  # its deviation over the seeds a gain is to be above


def clear(mean: float, deviation: float | None) -> bool:
    """Whether a gain is above twice its deviation over seeds: by the rule of the studies it is
    shown. Of one seed it is not."""
    return deviation is not None and mean > TIMES * deviation


def by_chance(seeds: int) -> float:
    """How often seeds that are alike but for normal noise have a mean gain that `clear` calls one,
    or a loss: a share. Their mean over its standard error is Student's t. Two seeds or more."""
    angles, within = _student(seeds - 1)
    angle = math.atan(TIMES * math.sqrt(seeds) / math.sqrt(seeds - 1))
    return 1 - float(np.interp(angle, angles, within))


def student(confidence: float, free: int) -> float:
    """How many standard errors on each side hold a value with that confidence (Student's t)."""
    angles, within = _student(free)
    return math.sqrt(free) * math.tan(float(np.interp(confidence, within, angles)))


@functools.cache
def _student(free: int) -> tuple[np.ndarray, np.ndarray]:
    """Angles u, and the share of Student's t that is within sqrt(free) tan(u) on each side: its
    density is that of cos(u)^(free - 1), which is summed here."""
    angles = np.linspace(0, np.pi / 2, 200_001)
    density = np.cos(angles) ** (free - 1)
    within = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return angles, within / within[-1]


def _several(values: ArrayLike) -> np.ndarray:
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or len(found) < 2:
        raise DataError(f"{found.size} values have no spread; two or more have")
    return found
