"""Conversations as rows of tokens, of which the assistant's are learned, drawn by weight."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lm.core.config import require
from lm.core.errors import DataError
from lm.data.batches import TokenBatch
from lm.data.demonstrations import MULTIPLE
from lm.data.dialogues import Dialogue
from lm.data.features import TaskRows
from lm.data.mixture import APART, ROWS, apportioned, places
from lm.text.dialogue import Chat, Encoded, Learned


@dataclasses.dataclass(frozen=True)
class Conversed:
    """Conversations as arrays."""

    rows: TokenBatch  # all of them, in order
    cut: int  # of which the oldest exchanges were cut off
    long: int  # left out: not even the newest exchange fits
    empty: int  # left out: the assistant says nothing
    bad: int  # left out: by their weights, or their row's verdict, no answer is to be learned
    blank: int  # turns in the others in which the assistant says nothing: not learned from
    weightless: int  # turns in the others that are not to be learned by their weight
    answers: int  # turns of the assistant that are learned from
    late: int  # paths of a tree with an answer that an earlier one has too, and no room for

    def __str__(self) -> str:
        told = f"{len(self.rows.mask)} conversations"
        for count, why in (
            (self.cut, "cut to their newest turns"), (self.long, "too long and left out"),
            (self.empty, "without an answer and left out"),
            (self.bad, "without an answer to learn, by weight or label, and left out"),
            (self.blank, "blank answers that are not learned"),
            (self.weightless, "answers of weight 0 that are not learned"),
            (self.late, "with answers that an earlier path of their tree has no room for"),
        ):  # fmt: skip
            told += f", {count} {why}" if count else ""
        return told


def encode_dialogues(
    items: Sequence[Dialogue], chat: Chat, length: int, learned: Learned = "all"
) -> Conversed:
    """Rows of at most `length` tokens. What paths of a tree share is learned in the first of them
    that has it: another may have lost it to the length.

    Raises:
      DataError: none fits.
    """
    kept, cut, long, late = [], 0, 0, 0
    known: set[int] = set()  # answers of the path before that a row has, by their turns
    for item in items:
        known = {number for number in known if number < item.known}
        turns = item.to_answer
        said = [number for number, one in enumerate(turns) if one.role == "assistant"]
        new = [number for number in said if turns[number].answers and number not in known]
        if not new:
            continue
        row = chat.encode(turns, length, learned, known)
        if row is None:
            long += len(turns) > item.known
        elif row.learned.any():  # else it has no room either for what an earlier path has lost
            cut += row.dropped > 0
            kept.append(row)
            fits = said[-np.count_nonzero(row.tokens == chat.roles["assistant"]) :]
            taught = fits if learned == "all" else fits[-1:]
            late += any(number < item.known for number in new if number in taught)
            known.update(fits)
    unlearned = [item for item in items if not item.to_answer]
    if items and len(unlearned) == len(items):
        raise DataError(f"none of {len(items)} conversations has an answer to learn")
    if not kept:
        raise DataError(
            f"none of {len(items)} conversations fits into {length} tokens: set a larger length"
        )
    heard = [one for item in items if item.to_answer for one in item.turns]
    spoken = [one for one in heard if one.role == "assistant"]
    blank, weightless = sum(one.blank for one in spoken), sum(not one.taught for one in spoken)
    bad = sum(any(not one.taught for one in item.turns) for item in unlearned)
    rows = packed(kept, chat, length)
    ends = int(np.sum((rows.targets == chat.end) & rows.mask))
    return Conversed(
        rows, cut, long, empty=len(unlearned) - bad, bad=bad, blank=blank, weightless=weightless,
        answers=ends, late=late,
    )  # fmt: skip


def packed(kept: Sequence[Encoded], chat: Chat, length: int) -> TokenBatch:
    """Conversations as rows, as wide as the longest needs."""
    longest = max(len(row.tokens) for row in kept)
    width = min(length, -(-(longest - 1) // MULTIPLE) * MULTIPLE)
    whole = np.full((len(kept), width + 1), chat.tokenizer.pad or 0, np.int32)
    mask = np.zeros((len(kept), width + 1), bool)
    for number, row in enumerate(kept):
        whole[number, : len(row.tokens)] = row.tokens
        mask[number, : len(row.tokens)] = row.learned
    return TokenBatch(
        tokens=whole[:, :-1],
        targets=whole[:, 1:],
        mask=mask[:, 1:],
        rows=np.arange(len(kept), dtype=np.uint32),
    )


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
