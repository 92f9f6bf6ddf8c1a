"""The tokens of an item before a model's own specials are put around them, and its label.

A classification, a regression and a choice all come down to one first text, and to each candidate's
second: the other text of a pair, an answer, or nothing.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lm.core.errors import DataError
from lm.data.records import Choice, Classification, Record, Regression
from lm.text.interface import Tokenizer

NONE = -1  # no label

Sided = Classification | Regression | Choice


class Sides(NamedTuple):
    """The first text, in two parts since the question is kept where the context is cut."""

    context: list[int]
    question: list[int]
    seconds: list[list[int] | None]  # one a candidate; None: a text alone

    @property
    def empty(self) -> int:
        """Texts without a token."""
        return (not self.context and not self.question) + sum(s == [] for s in self.seconds)


def sides(records: Sequence[Sided], tokenizer: Tokenizer) -> list[Sides]:
    """The tokens of each item, all texts in one call of the tokenizer."""
    texts: list[str] = []
    for record in records:
        if isinstance(record, Choice):
            asked = continued(tokenizer, record.question) if record.question else ""
            texts += (record.context, asked, *record.choices)
        else:
            texts += [record.text] if record.pair is None else [record.text, record.pair]
    encoded = iter(tokenizer.encode_batch(texts))
    out = []
    for record in records:
        if isinstance(record, Choice):
            context, question = next(encoded), next(encoded)
            out.append(
                Sides(context, question, list(itertools.islice(encoded, len(record.choices))))
            )
        else:
            text = next(encoded)
            out.append(Sides(text, [], [None if record.pair is None else next(encoded)]))
    return out


def continued(tokenizer: Tokenizer, text: str) -> str:
    """`text` as it follows other text: a tokenizer that keeps blanks sees the one before it."""
    return f" {text}" if tokenizer.lossless else text


def keep_question(context: list[int], question: list[int], room: int) -> list[int]:
    """Context and question in at most `room` tokens: the end of the context is what goes."""
    return [*context[: max(0, room - len(question))], *question[:room]]


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """The lengths that are left of a pair in `room` tokens, cut one by one off the longer.

    The second of two that are equally long is cut (run_classifier.py, _truncate_seq_pair).
    """
    if first + second > room:
        first = min(first, max(room - second, -(-room // 2)))
        second = min(second, room - first)
    return first, second


def labels(records: Sequence[Sided]) -> np.ndarray:
    """One label an item: [N] int32, -1 for none; [N] float32 for a regression, NaN for none.

    Raises:
      DataError: a class below 0, a choice that is not there, a number that is none.
    """
    found: list[float] = []
    for record in records:
        if record.label is None:
            found.append(np.nan if isinstance(record, Regression) else NONE)
            continue
        if isinstance(record, Regression):
            wrong = not np.isfinite(record.label)
        elif isinstance(record, Choice):
            wrong = not 0 <= record.label < len(record.choices)
        else:
            wrong = record.label < 0
        if wrong:
            raise DataError(
                f"item {record.id}: the label {record.label} is no {_meaning(record)}; None says "
                "that there is no label"
            )
        found.append(record.label)
    return np.array(found, np.float32 if isinstance(records[0], Regression) else np.int32)


def _meaning(record: Sided) -> str:
    if isinstance(record, Choice):
        return f"index of its {len(record.choices)} choices"
    return "finite number" if isinstance(record, Regression) else "index of a class"


def require_one_kind(records: Sequence[Record]) -> None:
    """DataError where there are no items, items of two kinds, or a choice without an answer."""
    if not records:
        raise DataError("the set has no items: check the path and the split")
    kind = type(records[0])
    for record in records:
        if type(record) is not kind:
            raise DataError(
                f"item {record.id} is a {type(record).__name__}, item {records[0].id} a "
                f"{kind.__name__}: a set has items of one kind"
            )
        if isinstance(record, Choice) and not record.choices:
            raise DataError(f"item {record.id} has no choices: give it at least one")
