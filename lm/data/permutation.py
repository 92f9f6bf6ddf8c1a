"""Pseudo-random order without memory: a permutation that is computed, not stored."""

import numpy as np


def mix(values: np.ndarray, seed: int) -> np.ndarray:
    """A hash of uint64 values (the finaliser of SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = values + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def permute(index: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """Where a pseudo-random permutation of `range(size)` sends each index (uint64).

    A four-round Feistel network over the next power of four, walked until it lands inside
    (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains").
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    keys = mix(np.arange(4, dtype=np.uint64) + np.uint64(4 * epoch), seed)

    def network(x: np.ndarray) -> np.ndarray:
        left, right = x >> half, x & low
        for key in keys:
            with np.errstate(over="ignore"):
                left, right = right, left ^ (mix(right + key, seed) & low)
        return (left << half) | right

    out = network(index)
    while (outside := out >= np.uint64(size)).any():
        out[outside] = network(out[outside])
    return out
