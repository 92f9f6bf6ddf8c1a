"""The baseline that needs no training: of n answers to a prompt, the one with the best reward."""

import math

import numpy as np


def best_of_n(scores: np.ndarray, n: int, others: np.ndarray | None = None) -> np.ndarray:
    """Expected score of the best of `n` answers to each prompt, from N of them. [P]

    Exact over all sets of n of the N, none of which is drawn (Nakano et al. 2021, appendix I).

    Args:
      scores: [N P], by which the best is chosen.
      others: [N P], what is averaged instead: the gold score of what a proxy chose.
    """
    count = len(scores)
    order = np.argsort(scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores if others is None else others, order, axis=0)
    chances = [math.comb(place, n - 1) / math.comb(count, n) for place in range(count)]
    return np.asarray(chances) @ ranked


def best_of_n_kl(n: int) -> float:
    """KL from the policy that takes the best of n to the one it draws from, in nats (Stiennon et
    al. 2020, appendix G.3); where scores tie, it is an upper bound."""
    return math.log(n) - (n - 1) / n


def win_rates(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """How often our answer to a prompt [P] scores above theirs [N P], ties half. [P]"""
    return np.mean((ours > theirs) + 0.5 * (ours == theirs), axis=0)
