"""How often one of k programs passes, told from n of them (Chen et al. 2021, section 2.1)."""

import numpy as np
from numpy.typing import ArrayLike

from lm.core.config import require


def pass_at_k(samples: ArrayLike, passed: ArrayLike, k: int) -> np.ndarray:
    """1 - C(n - c, k) / C(n, k) for each problem: the chance that k of its n programs, drawn
    without putting back, have one of the c that passed. Unbiased, as 1 - (1 - c/n)^k is not. [P]

    Args:
      samples: n. [P]
      passed: c. [P]

    Raises:
      ConfigError: k is above some n, or some c is not in 0..n.
    """
    n, c = np.broadcast_arrays(np.asarray(samples, np.int64), np.asarray(passed, np.int64))
    require(1 <= k <= n.min(initial=k), f"k {k} must be in 1..{n.min(initial=k)}, the samples")
    require(bool(((c >= 0) & (c <= n)).all()), "more programs passed than there are")
    # the quotient of binomials as a product of k factors, none of which is large
    steps = np.arange(k)
    factors = np.maximum(n[..., None] - c[..., None] - steps, 0) / (n[..., None] - steps)
    return 1 - factors.prod(axis=-1)
