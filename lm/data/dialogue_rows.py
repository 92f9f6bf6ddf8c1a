"""Conversations as rows of tokens, of which the assistant's are learned, drawn by weight."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lm.core.config import require
from lm.core.errors import DataError
from lm.data.batches import TokenBatch
from lm.data.demonstrations import MULTIPLE
from lm.data.dialogues import Dialogue, answered
from lm.data.features import TaskRows
from lm.data.mixture import APART, ROWS, apportioned, places
from lm.text.dialogue import Chat, Learned


@dataclasses.dataclass(frozen=True)
class Conversed:
    """Conversations as arrays."""

    rows: TokenBatch  # all of them, in order
    cut: int  # of which the oldest exchanges were cut off
    long: int  # left out: not even the newest exchange fits
    empty: int  # left out: the assistant says nothing
    blank: int  # turns in the others in which the assistant says nothing: not learned from
    answers: int  # turns of the assistant that are learned from

    def __str__(self) -> str:
        told = f"{len(self.rows.mask)} conversations"
        for count, why in (
            (self.cut, "cut to their newest turns"), (self.long, "too long and left out"),
            (self.empty, "without an answer and left out"),
            (self.blank, "blank answers that are not learned"),
        ):  # fmt: skip
            told += f", {count} {why}" if count else ""
        return told


def encode_dialogues(
    items: Sequence[Dialogue], chat: Chat, length: int, learned: Learned = "all"
) -> Conversed:
    """Rows of at most `length` tokens.

    Raises:
      DataError: none fits.
    """
    kept, cut, long = [], 0, 0
    for item in answered(items):
        row = chat.encode(item.turns, length, learned, known=item.known)
        if row is None:
            long += 1
            continue
        cut += row.dropped > 0
        kept.append(row)
    if not kept:
        raise DataError(
            f"none of {len(items)} conversations fits into {length} tokens: set a larger length"
        )
    blank = sum(
        one.role == "assistant" and not one.answers
        for item in items for one in item.turns if item.to_answer
    )  # fmt: skip
    longest = max(len(row.tokens) for row in kept)
    width = min(length, -(-(longest - 1) // MULTIPLE) * MULTIPLE)
    whole = np.full((len(kept), width + 1), chat.tokenizer.pad or 0, np.int32)
    mask = np.zeros((len(kept), width + 1), bool)
    for number, row in enumerate(kept):
        whole[number, : len(row.tokens)] = row.tokens
        mask[number, : len(row.tokens)] = row.learned
    rows = TokenBatch(
        tokens=whole[:, :-1],
        targets=whole[:, 1:],
        mask=mask[:, 1:],
        rows=np.arange(len(kept), dtype=np.uint32),
    )
    ends = int(np.sum((rows.targets == chat.end) & rows.mask))
    empty = sum(not item.to_answer for item in items)
    return Conversed(rows, cut, long, empty, blank, ends)


class DialogueMixture:
    """Rows of a run: which source row `r` is from is a function of (seed, r), as of a mixture of
    texts; a source's rows come without replacement."""

    def __init__(self, sources: Mapping[str, Conversed], weights: Sequence[float], seed: int):
        """
        Raises:
          ConfigError: a weight is too small for a row in a thousand.
        """
        self.sources, self.seed = sources, seed
        self.shares = apportioned(weights)
        for name, share in zip(sources, self.shares.tolist(), strict=True):
            require(share > 0, f"data.mixture: the weight of {name} is below a row in {ROWS}")
        width = max(one.rows.tokens.shape[1] for one in sources.values())
        self.parts = [
            TaskRows(widened(one.rows, width), seed + APART * number)
            for number, one in enumerate(sources.values())
        ]
        self.count = sum(part.count for part in self.parts)  # rows that are called an epoch

    def __str__(self) -> str:
        if len(self.parts) == 1:
            return str(next(iter(self.sources.values())))
        told = [
            f"{name} ({share / ROWS:.1%} of the rows, {self.count * share / ROWS / part.count:.2f} "
            f"times an epoch): {one}"
            for (name, one), share, part in zip(
                self.sources.items(), self.shares.tolist(), self.parts, strict=True
            )
        ]
        return "; ".join(told)

    def __call__(self, first: int, count: int) -> TokenBatch:
        """Rows `first`, ..., `first + count - 1` of the run."""
        source, index = places(self.shares, self.seed, first, count)
        found = {
            name: np.empty((count, *getattr(self.parts[0].whole, name).shape[1:]), dtype)
            for name, dtype in (("tokens", np.int32), ("targets", np.int32), ("mask", bool))
        }
        for number, part in enumerate(self.parts):
            here = source == number
            if here.any():
                some = part.at(index[here])
                for name, leaf in found.items():
                    leaf[here] = getattr(some, name)
        return TokenBatch(**found, rows=np.arange(first, first + count, dtype=np.uint32))

    def origins(self, first: int, count: int) -> list[dict[str, Any]]:
        """Of each of these rows its source, and the number of its conversation there."""
        source, index = places(self.shares, self.seed, first, count)
        names = list(self.sources)
        return [
            {
                "row": first + n,
                "text": names[at],
                "item": int(self.parts[at].index(index[n : n + 1])[0]),
            }
            for n, at in enumerate(source.tolist())
        ]


def widened(rows: TokenBatch, width: int) -> TokenBatch:
    """Rows with so many tokens, of which the last are padding."""
    more = ((0, 0), (0, width - rows.tokens.shape[1]))
    return TokenBatch(
        tokens=np.pad(rows.tokens, more),
        targets=np.pad(rows.targets, more),
        mask=np.pad(rows.mask, more),
        rows=rows.rows,
    )
