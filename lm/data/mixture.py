"""Rows drawn from several texts by weight (Brown et al. 2020, section 2.2).

Which text row `r` of a run is from is a pure function of (seed, r), and so is the row's number
within that text: each block of a thousand rows holds every text's exact share in an order of its
own, and the rows of a text before a block are its share times the blocks. A text is read without
replacement: a window comes again only when all the others of its text have come.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from lm.core.config import require
from lm.data.batches import TokenBatch, Windows, batch_of
from lm.data.permutation import permute
from lm.data.tokens import Source

ROWS = 1000  # of a block: the step between two weights that are told apart
APART = 1 << 32  # between the seeds of two texts


class Mixture:
    """Training rows of `length` tokens from one text or several."""

    def __init__(self, sources: Sequence[Source], length: int, seed: int):
        """
        Raises:
          ConfigError: a weight is too small for a row in a thousand.
          DataError: a text has not one row.
        """
        self.sources, self.length, self.seed = sources, length, seed
        self.windows = [Windows(s.file, length, seed + APART * n) for n, s in enumerate(sources)]
        self.shares = apportioned([source.weight for source in sources])
        for source, share in zip(sources, self.shares.tolist(), strict=True):
            require(share > 0, f"data.mixture: weight {source.weight} of {source.name} is below a "
                    f"row in {ROWS}; give it more, or leave it out")  # fmt: skip

    @property
    def tokens(self) -> int:
        """Of all texts, each once."""
        return sum(len(source.file.tokens) for source in self.sources)

    @property
    def digest(self) -> str:
        """Identity of the content and of the weights."""
        if len(self.sources) == 1:
            return self.sources[0].file.digest
        told = [(s.name, s.file.digest, s.weight) for s in self.sources]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def __call__(self, first: int, count: int) -> TokenBatch:
        """Rows `first`, ..., `first + count - 1` of the run."""
        source, index = self.places(first, count)
        cut = np.empty((count, self.length + 1), np.int32)
        for number, windows in enumerate(self.windows):
            here = source == number
            if here.any():
                cut[here] = windows.cut(index[here])
        return batch_of(cut, first)

    def origins(self, first: int, count: int) -> list[dict[str, Any]]:
        """Of each of these rows its text, and where it is cut from."""
        found = []
        for row, (source, index) in enumerate(zip(*self.places(first, count), strict=True), first):
            windows = self.windows[source]
            start = int(windows.starts(np.array([index]))[0])
            told = {"row": row, "text": self.sources[source].name, "file": str(windows.file.folder)}
            found.append(told | windows.file.span(start, start + self.length + 1))
        return found

    def places(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each row its source, and its number among that source's rows. [count] int64, uint64"""
        return places(self.shares, self.seed, first, count)

    def drawn(self, rows: int) -> np.ndarray:
        """How many of the first `rows` rows of a run are from each source."""
        blocks, rest = divmod(rows, ROWS)
        order = order_of(tuple(self.shares.tolist()), self.seed, blocks)[0][:rest]
        return blocks * self.shares + np.bincount(order, minlength=len(self.sources))

    def table(self, rows: int) -> list[dict[str, Any]]:
        """What so many rows of a run read, in the columns of GPT-3's table 2.2: the tokens of each
        text, its weight in the mixture, and how often the run goes through it."""
        if len(self.sources) == 1:
            return []
        return [
            {
                "source": source.name,
                "tokens": len(source.file.tokens),
                "weight": share / ROWS,
                "epochs": drawn * self.length / len(source.file.tokens),
            }
            for source, share, drawn in zip(
                self.sources, self.shares.tolist(), self.drawn(rows).tolist(), strict=True
            )
        ]


def places(shares: np.ndarray, seed: int, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of a run its source, and its number among that source's rows, where a block has
    so many rows of each source. [count] int64, uint64"""
    rows = np.arange(first, first + count)
    if len(shares) == 1:
        return np.zeros(count, np.int64), rows.astype(np.uint64)
    source, index = np.empty(count, np.int64), np.empty(count, np.int64)
    for block in range(first // ROWS, (first + count - 1) // ROWS + 1):
        here = rows // ROWS == block
        order, before = order_of(tuple(shares.tolist()), seed, block)
        source[here] = order[rows[here] % ROWS]
        index[here] = block * shares[source[here]] + before[rows[here] % ROWS]
    return source, index.astype(np.uint64)


@functools.lru_cache(maxsize=8)
def order_of(shares: tuple[int, ...], seed: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """The source of each row of a block, and how many of that source come before it there."""
    slots = permute(np.arange(ROWS, dtype=np.uint64), ROWS, seed + 1, block)
    order = np.searchsorted(np.cumsum(shares), slots.astype(np.int64), side="right")
    before = np.empty(ROWS, np.int64)
    for source, share in enumerate(shares):
        before[order == source] = np.arange(share)
    return order, before


def apportioned(weights: Sequence[float]) -> np.ndarray:
    """A block's rows among weights, which need not sum to one: by largest remainder. [sources]"""
    exact = ROWS * np.asarray(weights, np.float64) / sum(weights)
    shares = np.floor(exact).astype(np.int64)
    most = np.argsort(shares - exact, kind="stable")[: ROWS - shares.sum()]
    shares[most] += 1
    return shares


def told(table: Sequence[dict[str, Any]]) -> str:
    """A table of `Mixture.table` for the terminal, with the held-out loss of each text where it has
    been measured."""
    width = max([len("text"), *(len(row["source"]) for row in table)])
    measured = any("valid_loss" in row for row in table)
    header = f"{'text':<{width}}  {'tokens':>15}  {'weight':>6}  {'epochs':>8}"
    lines = [header + "  held-out loss" * measured]
    for row in table:
        loss = f"  {row['valid_loss']:>13.4f}" if "valid_loss" in row else ""
        lines.append(
            f"{row['source']:<{width}}  {row['tokens']:>15,}  {row['weight']:>6.1%}  "
            f"{row['epochs']:>8.3g}{loss}"
        )
    return "\n".join(lines)
