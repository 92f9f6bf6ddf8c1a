"""What a protocol says of a model: a metric, its value, and how sure it is."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from lm.metrics.perplexity import perplexity as perplexity_of
from lm.metrics.spread import ratio_error, standard_error


@dataclasses.dataclass(frozen=True)
class Figure:
    """One metric of a task; accuracies and the like are fractions."""

    metric: str
    value: float
    error: float | None  # standard error; None where there is none to be had
    items: int
    cut: int = 0  # contexts of which the model was shown a part, since the whole did not fit
    refused: int = 0  # prompts that do not fit, and were not asked
    remark: str = ""  # why the value is not what it seems


def mean(metric: str, values: Sequence[float]) -> Figure:
    """The mean of one value an item. NaN of none."""
    count = len(values)
    error = standard_error(values) if count > 1 else None
    return Figure(metric, float(np.mean(values)) if count else math.nan, error, count)


def perplexity(metric: str, nats: Sequence[float], units: Sequence[int]) -> Figure:
    """exp of all nats over all units (words, tokens), from parts that are taken for independent.

    The error is that of a ratio of sums over the parts, carried through the exponential.

    Args:
      nats: [N] of each part, as losses.
      units: [N] of each part.
    """
    ratio = ratio_of("", nats, units)
    value = perplexity_of(ratio.value)
    return Figure(metric, value, None if ratio.error is None else value * ratio.error, ratio.items)


def ratio_of(metric: str, amounts: Sequence[float], units: Sequence[int]) -> Figure:
    """All amounts over all units, and the error of that ratio over the parts."""
    over, under = np.asarray(amounts, np.float64), np.asarray(units, np.float64)
    total = under.sum()
    if not total:
        return Figure(metric, math.nan, None, len(over))
    error = ratio_error(over, under) if len(over) > 1 else None
    return Figure(metric, float(over.sum() / total), error, len(over))
