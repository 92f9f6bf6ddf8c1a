"""Loss of a language model on held-out tokens: from a few batches, or each token once."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from lm.core.mesh import place_whole
from lm.data.batches import TokenBatch, Windows, gather
from lm.data.token_file import TokenFile

# (params, batch) -> sum of losses, number of tokens; compiled
Loss = Callable[[Any, Any], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A held-out file, and how a model sees it."""

    file: TokenFile
    length: int
    rows: int  # of a batch
    mesh: jax.sharding.Mesh

    def windows(self, seed: int) -> Windows:
        """Rows of the file in an order of their own. Raises DataError if it has not one."""
        return Windows(self.file, self.length, seed, held_out=True)

    def estimate(self, batches: int, seed: int) -> Iterator[TokenBatch]:
        """As many batches of windows drawn without replacement, always the same ones."""
        windows = self.windows(seed)
        for number in range(batches):
            yield windows(number * self.rows, self.rows)

    def whole(self) -> Iterator[TokenBatch]:
        """Consecutive windows: every token after the file's first is a target once."""
        tokens = self.file.tokens
        starts = np.arange(0, len(tokens) - 1, self.length)
        for first in range(0, len(starts), self.rows):
            some = starts[first : first + self.rows]
            cut = np.zeros((self.rows, self.length + 1), np.int32)
            mask = np.zeros((self.rows, self.length), bool)
            full = some[some + self.length < len(tokens)]
            cut[: len(full)] = gather(tokens, full, self.length + 1)
            mask[: len(full)] = True
            for row, start in enumerate(some[len(full) :], start=len(full)):
                rest = tokens[start:]
                cut[row, : len(rest)], mask[row, : len(rest) - 1] = rest, True
            yield TokenBatch(
                tokens=cut[:, :-1],
                targets=cut[:, 1:],
                mask=mask,
                rows=np.arange(first, first + self.rows, dtype=np.uint32),
            )

    def loss(self, loss: Loss, params: Any, batches: Iterator[TokenBatch]) -> float:
        """Mean loss in nats a token."""
        sums = [loss(params, place_whole(batch, self.mesh)) for batch in batches]
        totals = np.array(jax.device_get(sums), np.float64)
        return float(totals[:, 0].sum() / max(1.0, totals[:, 1].sum()))

    def bits_per_byte(self, loss: float) -> float:
        """A loss in nats a token as bits a byte of the text behind the tokens."""
        return loss * (len(self.file.tokens) - 1) / self.file.bytes / math.log(2)
