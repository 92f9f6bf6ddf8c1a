"""Comparisons as arrays: all answers to a prompt are one row, so that each is read once a step."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.struct
import numpy as np

from lm.core.errors import DataError
from lm.data.comparisons import Comparison
from lm.text.interface import Form

MULTIPLE = 16  # of the width of rows


@flax.struct.dataclass
class RankingBatch:
    """Rows of prompts, each with up to C answers."""

    tokens: np.ndarray  # [B C T] int32: prompt, answer, end token, padding
    start: np.ndarray  # [B C] int32: tokens of the prompt
    read: np.ndarray  # [B C] int32: the last token, where the answer is scored
    ranks: np.ndarray  # [B C] int32: 0 the best
    mask: np.ndarray  # [B C] bool: answers that are there
    faults: np.ndarray  # [B C C] bool: pairs that are left out, the preferred answer first
    reference: np.ndarray  # [B C] float32: log-probability under a reference; 0 where none is asked
    rows: np.ndarray  # [B] uint32: the row's number in the run
    sight: Any = None  # what is seen in the prompts, at places [B C T]
    answered: Any = None  # [B C Q] int8, of each question asked: 1 yes, 0 no, -1 not answered


@dataclasses.dataclass(frozen=True)
class Ranked:
    """Comparisons as arrays."""

    rows: RankingBatch  # all of them, in order
    items: tuple[Comparison, ...]  # that of each row
    cut: int  # prompts of which the beginning was cut off
    long: int  # left out: an answer longer than a row
    asked: int  # left out: more tokens than a prompt may have

    def __str__(self) -> str:
        told = f"{len(self.rows.mask)} comparisons"
        told += f", {self.cut} prompts cut at the left" if self.cut else ""
        told += f", {self.asked} of prompts above prompt_length left out" if self.asked else ""
        return told + (f", {self.long} too long and left out" if self.long else "")


def encode_rankings(
    items: Sequence[Comparison], form: Form, length: int, *, end: bool = True,
    questions: Sequence[str] = (), prompt_length: int | None = None,
) -> Ranked:  # fmt: skip
    """Rows of at most `length` tokens: of a longer prompt the end stays, as wide as all answers
    to it leave room, and as the form of prompts lets it be cut. With `end` an answer that ends has
    its end token, and is read there. `questions` are those of the metadata that the rows have.
    What is ranked of a prompt of more than `prompt_length` tokens is left out.

    Raises:
      DataError: no comparison fits, or no prompt does.
    """
    prompts, tokenizer = form.encode_prompts([item.prompt for item in items]), form.tokenizer
    fitting: list[tuple[list[int], list[list[int]], Comparison]] = []
    cut = long = asked = 0
    for prompt, item in zip(prompts, items, strict=True):
        if prompt_length is not None and len(prompt) > prompt_length:
            asked += 1
            continue
        answers = [
            [*ids, form.end] if end and item.ends(place) else ids
            for place, ids in enumerate(tokenizer.encode_batch(item.answers))
        ]
        room = length - max(map(len, answers))
        kept = form.cut(prompt, room) if room > 0 else []
        if not kept:
            long += 1
            continue
        cut += len(prompt) > room
        fitting.append((kept, answers, item))
    if asked and asked == len(items):
        raise DataError(
            f"none of {len(items)} comparisons has a prompt of at most {prompt_length} tokens: "
            "set a larger prompt_length"
        )
    if not fitting:
        raise DataError(
            f"none of {len(items)} comparisons fits into {length} tokens: set a larger length"
        )
    most = max(len(answers) for _, answers, _ in fitting)
    longest = max(len(prompt) + max(map(len, answers)) for prompt, answers, _ in fitting)
    width = min(length, -(-longest // MULTIPLE) * MULTIPLE)
    shape = (len(fitting), most)
    tokens = np.full((*shape, width), tokenizer.pad or 0, np.int32)
    start, read, ranks = (np.zeros(shape, np.int32) for _ in range(3))
    mask, faults = np.zeros(shape, bool), np.zeros((*shape, most), bool)
    for row, (prompt, answers, item) in enumerate(fitting):
        for place, (answer, rank) in enumerate(zip(answers, item.ranks, strict=True)):
            ids = prompt + answer
            tokens[row, place, : len(ids)] = ids
            start[row, place], read[row, place] = len(prompt), len(ids) - 1
            ranks[row, place], mask[row, place] = rank, True
        for preferred, other in item.faults:
            faults[row, preferred, other] = True
    answered = np.full((*shape, len(questions)), -1, np.int8)
    for row, (_, _, item) in enumerate(fitting):
        for place, told in enumerate(item.metadata):
            answered[row, place] = [int(told.get(name, -1)) for name in questions]
    rows = RankingBatch(
        tokens=tokens,
        start=start,
        read=read,
        ranks=ranks,
        mask=mask,
        faults=faults,
        reference=np.zeros(shape, np.float32),
        rows=np.arange(len(fitting), dtype=np.uint32),
        answered=answered if questions else None,
    )
    return Ranked(rows, tuple(item for _, _, item in fitting), cut, long, asked)


def check_asked(questions: Sequence[str], items: Sequence[Comparison], told: str) -> None:
    """Raises DataError where a question has no answer in the metadata of any of the items."""
    known = sorted({name for item in items for one in item.metadata for name in one})
    for name in questions:
        if name not in known:
            raise DataError(
                f"metadata: nobody answers {name!r} in {told}, as far as it is trained on; there "
                f"are: {', '.join(map(repr, known)) or 'no questions'}"
            )
