"""What a model reads of a task's items: arrays of one shape, for every kind of task.

A row is an item, or one window of a long passage. Its candidates are what is encoded apart: the
answers of a choice, the two orders of a similarity, one in every other case. All rows of a set
are one `TaskBatch`; a step's rows are cut from it.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import numpy as np

from lm.data.passages import PassageRows, WordRows
from lm.data.permutation import permute


@flax.struct.dataclass
class TaskBatch:
    """Rows of a task."""

    tokens: np.ndarray  # [B C T] int32
    segments: np.ndarray  # [B C T] int32: 0 or 1, BERT's token types
    valid: np.ndarray  # [B C T] bool: real tokens
    read: np.ndarray  # [B C] int32: where the head reads ([CLS], or GPT-1's last token)
    lm_mask: np.ndarray  # [B C T] bool: tokens whose successor counts in an auxiliary LM loss
    candidates: np.ndarray  # [B C] bool: candidates that are there
    label: np.ndarray  # [B] int32 class or choice, or float32; [B 2] span; [B T] tags, -1: none
    mask: np.ndarray  # [B] bool: rows that count
    example: np.ndarray  # [B] int32: the item a row is of
    rows: np.ndarray  # [B] uint32: the row's number in the run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of a set's items: nothing is cut or lost without being told here."""

    items: int
    rows: int
    truncated: int = 0  # items of which something was cut off
    cut: int = 0  # tokens cut off, over all candidates
    empty: int = 0  # texts that gave no token
    lost: int = 0  # answers or words that are the label of no row

    def __str__(self) -> str:
        told = [f"{self.items} items in {self.rows} rows"]
        if self.truncated:
            told.append(f"{self.truncated} cut to the length, by {self.cut} tokens")
        if self.empty:
            told.append(f"{self.empty} texts without a token")
        if self.lost:
            told.append(f"{self.lost} answers or words without a label in any row")
        return "; ".join(told)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded:
    """A set of items as arrays."""

    rows: TaskBatch  # all of them, in the order of the items
    counts: Counts
    passages: PassageRows | None = None  # of a span task
    words: WordRows | None = None  # of a tagging task


class Candidate(NamedTuple):
    """One encoded input."""

    ids: list[int]
    second: int  # where segment 1 begins; the length where there is none
    read: int


def pack(
    items: Sequence[Sequence[Candidate]],
    label: np.ndarray,
    example: Sequence[int],
    *,
    width: int,
    pad: int | None,
    lm: bool = False,
) -> TaskBatch:
    """All rows as one batch of `width` tokens; a candidate that is missing is one token.

    One token and not none, since a softmax over no key at all has no value.
    """
    most = max(map(len, items))
    flat = [c for item in items for c in (*item, *[_missing(item[0])] * (most - len(item)))]
    shape = (len(items), most, width)
    sizes = np.array([len(c.ids) for c in flat])[:, None]
    place = np.arange(width)
    valid = place < sizes
    tokens = np.full(valid.shape, pad or 0, np.int32)
    tokens[valid] = np.fromiter(itertools.chain.from_iterable(c.ids for c in flat), np.int32)
    segments = valid & (place >= np.array([c.second for c in flat])[:, None])
    followed = place < sizes - 1 if lm else np.zeros_like(valid)
    return TaskBatch(
        tokens=tokens.reshape(shape),
        segments=segments.astype(np.int32).reshape(shape),
        valid=valid.reshape(shape),
        read=np.array([c.read for c in flat], np.int32).reshape(shape[:2]),
        lm_mask=followed.reshape(shape),
        candidates=np.arange(most) < np.array([len(item) for item in items])[:, None],
        label=label,
        mask=np.ones(len(items), bool),
        example=np.array(example, np.int32),
        rows=np.arange(len(items), dtype=np.uint32),
    )


def _missing(like: Candidate) -> Candidate:
    return Candidate(like.ids[:1], 1, 0)


def padded(longest: int, length: int) -> int:
    """The width of rows whose longest has `longest` tokens: up to a multiple of 8, or `length`."""
    return min(length, -(-longest // 8) * 8)


class TaskRows:
    """Training rows: row `i` of an epoch is `permute(i)`, and the only state is the row's number.

    They are rows of any batch with a `mask` and `rows`. Every epoch has each row once; a step may
    take the end of one epoch and the start of the next.
    """

    def __init__(self, whole: Any, seed: int, names: Sequence[str] = ()):
        """`names`: what people call each row of `whole`, such as its file and line."""
        self.whole, self.seed, self.names = whole, seed, names
        self.count = len(whole.mask)  # rows an epoch

    def __call__(self, first: int, count: int) -> Any:
        """Rows `first`, ..., `first + count - 1` of the run."""
        return self.at(np.arange(first, first + count, dtype=np.uint64))

    def at(self, rows: np.ndarray) -> Any:
        """The rows of these numbers."""
        rows = rows.astype(np.uint64)
        return take(self.whole, self.index(rows)).replace(rows=rows.astype(np.uint32))

    def origins(self, first: int, count: int) -> list[dict[str, Any]]:
        """Of each of these rows which one of the whole it is, and its name."""
        index = self.index(np.arange(first, first + count, dtype=np.uint64)).tolist()
        return [
            {"row": row, "item": item} | ({"name": self.names[item]} if self.names else {})
            for row, item in enumerate(index, first)
        ]

    def index(self, rows: np.ndarray) -> np.ndarray:
        """Index into `whole` of each run row. [B] uint64 from uint64"""
        epochs, index = rows // np.uint64(self.count), rows % np.uint64(self.count)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            index[here] = permute(index[here], self.count, self.seed, int(epoch))
        return index


def in_order(whole: Any, batch: int) -> Iterator[Any]:
    """All rows once, `batch` at a time. The last batch is filled up with its last row, masked out:
    what a model says of the rows of all batches, put together, is cut to `len(whole.mask)`."""
    count = len(whole.mask)
    for first in range(0, count, batch):
        index = np.arange(first, first + batch)
        some = take(whole, np.minimum(index, count - 1))
        there = (index < count).reshape(-1, *[1] * (whole.mask.ndim - 1))
        yield some.replace(mask=some.mask & there, rows=index.astype(np.uint32))


def take(whole: Any, index: np.ndarray) -> Any:
    """The rows at `index`. (Any: flax's dataclasses have a `replace` that mypy does not see.)"""
    return jax.tree.map(lambda leaf: leaf[index], whole)
