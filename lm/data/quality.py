"""GPT-3's filter of a crawl by quality (Brown et al. 2020, appendix A).

A logistic regression on hashed words tells curated text from the raw crawl. A document stays if a
draw from Pareto(9) is above one minus its score: the best almost always, the worst now and then.
The paper's pareto is NumPy's, which begins at 0 and not at 1: with the other every document stays.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lm.core.config import require
from lm.data.overlap import stable_hash

FEATURES = 1 << 18  # as Spark's HashingTF has by default
ALPHA = 9.0
RIDGE = 1e-5  # of the weights; our choice, with the unit length of the features
ROUNDS = 300


@functools.lru_cache(maxsize=1 << 18)
def feature(word: str) -> int:
    return stable_hash(word) % FEATURES


def features(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Which words, lower case and hashed, a text has, and how often, scaled to length one, so that
    a long text is not surer of its score. [F] int64, [F] float64"""
    found = np.fromiter(map(feature, text.lower().split()), np.int64)
    index, counts = np.unique(found, return_counts=True)
    return index, counts / max(1.0, float(np.linalg.norm(counts)))


@dataclass(frozen=True)
class Quality:
    """A classifier of documents."""

    weights: np.ndarray  # [FEATURES] float64
    bias: float

    def score(self, text: str) -> float:
        """How likely a document is curated, between 0 and 1."""
        index, values = features(text)
        return float(sigmoid(self.weights[index] @ values + self.bias))

    def keeps(self, text: str, seed: int) -> bool:
        """Whether a document stays: a pure function of (seed, text)."""
        uniform = (stable_hash(f"{seed} {text}") + 0.5) / 2.0**64
        return lomax(uniform) > 1 - self.score(text)


def lomax(uniform: float, alpha: float = ALPHA) -> float:
    """What `numpy.random.pareto` draws, from a uniform number: above x with (1 + x)^-alpha."""
    return uniform ** (-1 / alpha) - 1


def fit(good: Iterable[str], raw: Iterable[str]) -> Quality:
    """The classifier of curated text against raw text; both sides weigh the same.

    Nesterov's method on the ridge-penalised likelihood, which is convex: the step is the inverse of
    the largest curvature that rows of length one can have.

    Raises:
      ConfigError: one side has no document.
    """
    sides = [[features(text) for text in texts] for texts in (good, raw)]
    require(all(sides), "the quality filter needs documents on both sides: curated and raw")
    rows = sides[0] + sides[1]
    label = np.repeat([1.0, 0.0], [len(side) for side in sides])
    share = 0.5 / np.repeat([len(side) for side in sides], [len(side) for side in sides])
    used, index = np.unique(np.concatenate([row[0] for row in rows]), return_inverse=True)
    values = np.concatenate([row[1] for row in rows])
    row_of = np.repeat(np.arange(len(rows)), [len(row[0]) for row in rows])

    step = 1 / (0.25 * 2 + RIDGE)  # a row and its constant 1 have squared length 2
    weights = ahead = np.zeros(len(used))
    bias = bias_ahead = 0.0
    for done in range(ROUNDS):
        scores = np.bincount(row_of, values * ahead[index], minlength=len(rows)) + bias_ahead
        slope = share * (sigmoid(scores) - label)
        gradient = np.bincount(index, values * slope[row_of], minlength=len(used)) + RIDGE * ahead
        old, old_bias = weights, bias
        weights, bias = ahead - step * gradient, bias_ahead - step * slope.sum()
        momentum = done / (done + 3)
        ahead = weights + momentum * (weights - old)
        bias_ahead = bias + momentum * (bias - old_bias)
    whole = np.zeros(FEATURES)  # words that neither side has say nothing
    whole[used] = weights
    return Quality(whole, float(bias))


def sigmoid(x: np.ndarray | float) -> np.ndarray:
    return 0.5 * (1 + np.tanh(np.asarray(x) / 2))
