"""Associative recall at every distance: a few facts, then questions about them among filler.

A fact is one token that says which value a key has; a question is one token, its key. The answer
to a question is the fact's own token, and stands in the targets alone: nothing between a question
and its fact gives it away, so their distance is how far back a model has to look.

    tokens    filler filler [b=3] [a=7] filler  a? filler filler  b?
    targets                                    [a=7]             [b=3]
"""

import dataclasses

import numpy as np

from lm.core.config import require, require_positive
from lm.data.batches import TokenBatch, mix

HELD_OUT = -1  # the seed of rows that no run trains on


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecallConfig:
    """The rows of the task."""

    keys: int = 4  # facts of a row, one a key
    values: int = 16
    fillers: int = 16
    asked: float = 0.5  # share of questions behind the facts; the rest is filler
    near: int = 8  # questions further off count less often, in inverse proportion
    begin: float = 0.5  # facts stand at a random place in this part of the row

    def __post_init__(self) -> None:
        require_positive(self, "keys", "values", "fillers", "near")
        for name in ("asked", "begin"):
            share = getattr(self, name)
            require(0 < share <= 1, f"{name} must be above 0 and at most 1, got {share}")

    @property
    def vocab(self) -> int:
        """Facts first, then questions, then filler."""
        return self.keys * self.values + self.keys + self.fillers


class RecallRows:
    """Row `r` is a pure function of (seed, r)."""

    def __init__(self, config: RecallConfig, length: int, seed: int):
        """Raises ConfigError if the facts and a question do not fit the length."""
        self.config, self.length, self.seed = config, length, seed
        self.starts = int(length * config.begin) - config.keys  # where the first fact may stand
        require(
            self.starts > 0,
            f"{config.keys} keys do not fit the first {config.begin:.0%} of {length} tokens",
        )

    def __call__(self, first: int, count: int) -> TokenBatch:
        return self.with_distances(first, count)[0]

    def with_distances(self, first: int, count: int) -> tuple[TokenBatch, np.ndarray]:
        """Rows, and how far before each question its fact stands. [B T] int, 0 at other tokens"""
        config, keys, slots = self.config, self.config.keys, np.arange(self.length)
        rows = np.arange(first, first + count, dtype=np.uint64)
        begin, order, value, kind, about, filler, counted = self.draws(rows)

        start = (begin % np.uint64(self.starts)).astype(np.int64)  # [B 1]
        place = start + np.argsort(np.argsort(order[:, :keys], axis=1), axis=1)  # [B K]
        fact = np.arange(keys) * config.values + (value[:, :keys] % np.uint64(config.values))
        key = (about % np.uint64(keys)).astype(np.int64)  # [B T]

        facts = config.keys * config.values
        tokens = facts + keys + (filler % np.uint64(config.fillers)).astype(np.int64)
        question = (uniform(kind) < config.asked) & (slots >= start + keys)
        tokens = np.where(question, facts + key, tokens)
        np.put_along_axis(tokens, place, fact.astype(np.int64), axis=1)
        answers = np.take_along_axis(fact.astype(np.int64), key, axis=1)
        distances = np.where(question, slots - np.take_along_axis(place, key, axis=1), 0)
        batch = TokenBatch(
            tokens=tokens.astype(np.int32),
            targets=np.where(question, answers, 0).astype(np.int32),
            mask=question & (uniform(counted) * distances < config.near),
            rows=rows.astype(np.uint32),
        )
        return batch, distances

    def draws(self, rows: np.ndarray) -> list[np.ndarray]:
        """Seven arrays of random 64-bit numbers, one for the row and six for its tokens."""
        numbers = rows[:, None] * np.uint64(7 * self.length) + np.arange(
            7 * self.length, dtype=np.uint64
        )
        drawn = mix(numbers, self.seed).reshape(len(rows), 7, self.length)
        return [drawn[:, 0, :1], *(drawn[:, number] for number in range(1, 7))]


def uniform(drawn: np.ndarray) -> np.ndarray:
    """Random 64-bit numbers as numbers in [0, 1)."""
    return (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53
