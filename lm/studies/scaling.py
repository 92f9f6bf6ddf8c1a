"""How loss falls with compute: L = a C^-b, or a C^-b + c, with the interval of the exponent b.

GPT-3's own curve is 2.57 C^-0.048, C in PF-days (Brown et al. 2020, figure 3.1). Give one point a
size: runs of one size that differ by their seed share that size's distance from the law, and are
not so many points. The law is of runs that are long enough for their size; a fixed number of tokens
for all of them gives the small ones too many.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from lm.core.config import load
from lm.core.errors import DataError
from lm.metrics.spread import student

PF_DAY = 1e15 * 86_400  # FLOPs
EXPONENTS = np.geomspace(1e-3, 3.0, 4000)  # looked through for a law with an irreducible loss


@dataclass(frozen=True)
class Law:
    """L = scale C^-exponent + irreducible, and between what the exponent lies."""

    scale: float
    exponent: float
    irreducible: float
    low: float
    high: float
    confidence: float
    points: int
    error: float  # of a loss, relative: the standard deviation that the law leaves

    def __call__(self, compute: ArrayLike) -> np.ndarray:
        """Losses in nats at some computes, in the unit of those it was fitted to."""
        power = self.scale * np.asarray(compute, np.float64) ** -self.exponent
        return power + self.irreducible

    def __str__(self) -> str:
        more = f" + {self.irreducible:.4g}" if self.irreducible else ""
        return (
            f"L = {self.scale:.4g} C^{-self.exponent:.4g}{more}, exponent {self.low:.4g} to "
            f"{self.high:.4g} ({100 * self.confidence:g}%, {self.points} points)"
        )


def fit(compute: ArrayLike, loss: ArrayLike, *, confidence: float = 0.95) -> Law:
    """The power law through some points, by least squares of the logarithms. [N], [N]

    The interval is Student's, which is exact where the logarithms of the losses are normal around
    the law: with six sizes it is 1.4 times as wide as the normal one.

    Raises:
      DataError: fewer than three points, or all of one compute, or a value that is not positive.
    """
    x, y = logarithms(compute, loss, least=3)
    spread = x - x.mean()
    slope = float(spread @ y / (spread @ spread))
    constant = float(y.mean() - slope * x.mean())
    free = len(x) - 2
    error = math.sqrt(float(((y - constant - slope * x) ** 2).sum()) / free)
    half = student(confidence, free) * error / math.sqrt(float(spread @ spread))
    return Law(
        scale=math.exp(constant),
        exponent=-slope,
        irreducible=0.0,
        low=-slope - half,
        high=-slope + half,
        confidence=confidence,
        points=len(x),
        error=error,
    )


def fit_irreducible(compute: ArrayLike, loss: ArrayLike, *, confidence: float = 0.95) -> Law:
    """The power law with a loss that no compute removes, by least squares of relative errors.

    For each exponent the rest is linear; the interval holds the exponents whose squares are not
    above the least ones by more than Student's share (Bates and Watts 1988, section 6.1). It ends
    at the edges of EXPONENTS where the points do not bound it.

    Raises:
      DataError: fewer than four points, or all of one compute, or a value that is not positive.
    """
    x, y = logarithms(compute, loss, least=4)
    squares, scales, irreducible = solved(x, y)
    best = int(squares.argmin())
    free = len(x) - 3
    allowed = squares[best] * (1 + student(confidence, free) ** 2 / free)
    inside = EXPONENTS[squares <= max(allowed, squares[best] + 1e-18)]
    return Law(
        scale=float(scales[best]),
        exponent=float(EXPONENTS[best]),
        irreducible=float(irreducible[best]),
        low=float(inside.min()),
        high=float(inside.max()),
        confidence=confidence,
        points=len(x),
        error=math.sqrt(squares[best] / free),
    )


def solved(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The least sum of squared relative errors at each of EXPONENTS, and the scale and irreducible
    loss that reach it, neither of them negative. [E], [E], [E]"""
    constant = np.exp(-y)  # [N]
    power = np.exp(-EXPONENTS[:, None] * (x - x.mean())) * constant  # [E N]
    aa, ab, bb = (power**2).sum(1), power @ constant, constant @ constant
    a, b = power.sum(1), constant.sum()
    determinant = aa * bb - ab**2
    scale, irreducible = (bb * a - ab * b) / determinant, (aa * b - ab * a) / determinant
    scale, irreducible = (
        np.where(irreducible < 0, a / aa, np.maximum(scale, 0)),
        np.where(scale < 0, b / bb, np.maximum(irreducible, 0)),
    )
    errors = scale[:, None] * power + irreducible[:, None] * constant - 1
    return (errors**2).sum(1), scale * np.exp(EXPONENTS * x.mean()), irreducible


def logarithms(compute: ArrayLike, loss: ArrayLike, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both axes' logarithms. [N], [N]"""
    x, y = np.asarray(compute, np.float64), np.asarray(loss, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < least:
        raise DataError(f"{x.size} computes and {y.size} losses; a law needs {least} of both")
    if not (np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)).all():
        raise DataError("a compute or a loss is not positive and finite")
    if len(np.unique(x)) < least:
        raise DataError(f"{len(np.unique(x))} different computes; a law needs {least}")
    return np.log(x), np.log(y)


def points(runs: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Compute in PF-days and held-out loss of pre-training runs that have ended. [N], [N]

    Compute is that of the model's products (`flops_per_token`) over the tokens that were seen.

    Raises:
      DataError: a folder that is not such a run.
    """
    found = []
    for run in runs:
        try:
            summary = json.loads((run / "summary.json").read_text())
            loss, tokens = float(summary["valid_loss"]), int(summary["tokens"])
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(f"{run} is not a pre-training run that has ended") from None
        model = load((run / "config.gin").read_text(), str(run / "config.gin")).model
        found.append((model.flops_per_token(model.length) * tokens / PF_DAY, loss))
    compute, losses = zip(*found, strict=True) if found else ((), ())
    return np.array(compute), np.array(losses)
