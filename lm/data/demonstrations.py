"""What people wrote as good answers, and the rows that a model learns them from.

A row is a prompt, its answer and the end token, which is learned like any other: padding is not
it. Demonstrations that do not fit are left out and counted, as the paper leaves out its longest.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from lm.core.errors import DataError
from lm.data.asking import (
    ANSWERS,
    BETWEEN,
    Malformed,
    few_shot,
    instruction,
    is_bad,
    is_dialogue,
    is_few_shot,
    last_answer,
    prompt_of,
    text,
)
from lm.data.batches import TokenBatch
from lm.data.prompts import Reader, check_faults
from lm.data.tasks.rows import Row
from lm.text.dialogue import Conversation
from lm.text.tokenizer import Tokenizer

MULTIPLE = 16  # of the width of rows


@dataclasses.dataclass(frozen=True)
class Demonstration:
    """A prompt and how it should be continued."""

    prompt: str | Conversation
    answer: str
    where: str  # file:line
    good: bool = True  # whether to learn from it


def demonstrations(between: str = BETWEEN) -> Reader[Demonstration]:
    """Rows of {prompt, response} or {instruction, input, output}, of Self-Instruct's seeds, of an
    instruction with examples, each of which is asked behind the others, and of a dialogue that was
    `chosen` (HH-RLHF), whose last answer it is. One whose row says `"label": false` (KTO's verdict)
    is not good."""

    def of(row: Row) -> list[Demonstration]:
        good = not is_bad(row.values)
        return [dataclasses.replace(one, good=good) for one in every(row)]

    def every(row: Row) -> list[Demonstration]:
        values = row.values
        if conversational(values):
            raise Malformed("these are conversations: chatgpt:sft reads them")
        if is_few_shot(values):
            pairs = few_shot(values, between)
            return [Demonstration(prompt, answer, row.where) for prompt, answer in pairs]
        if "instances" not in values:
            answer = last_answer(values)[1] if is_dialogue(values) else text(values, *ANSWERS)
            return [Demonstration(prompt_of(values, between), answer, row.where)]
        instances = values["instances"]
        if not isinstance(instances, list) or not all(isinstance(i, dict) for i in instances):
            raise Malformed('"instances" is no list of objects')
        return [
            Demonstration(
                instruction(values, one.get("input", ""), between), text(one, "output"), row.where
            )
            for one in instances
        ]

    return of


def conversational(values: dict[str, Any]) -> bool:
    """Whether a row is turns with no one answer: its own, or a prompt and a completion of them."""
    lists = {name for name, value in values.items() if isinstance(value, list)}
    turns = bool(lists & {"messages", "conversations"})
    return {"prompt", "completion"} <= lists or (turns and not values.keys() & set(ANSWERS))


@dataclasses.dataclass(frozen=True)
class Demonstrated:
    """Demonstrations as arrays."""

    rows: TokenBatch  # all of them, in order
    names: tuple[str, ...]  # file:line of each
    long: int  # left out: more tokens than a row
    empty: int  # left out: no answer
    bad: int  # left out: judged so by their rows
    asked: int  # left out: more tokens than a prompt may have

    def __str__(self) -> str:
        told = f"{len(self.rows.mask)} demonstrations"
        for count, why in (
            (self.asked, "of prompts above prompt_length"), (self.long, "too long"),
            (self.empty, "empty"), (self.bad, 'of rows with "label": false'),
        ):  # fmt: skip
            told += f", {count} {why} and left out" if count else ""
        return told


def check_answers(items: Sequence[Demonstration], spec: str) -> None:
    """Raises DataError where more than a few of all demonstrations have no answer."""
    check_faults([item.where for item in items if not item.answer.strip()], len(items), spec)


def encode_demonstrations(
    items: Sequence[Demonstration], tokenizer: Tokenizer, length: int, *, whole: bool = False,
    prompt_length: int | None = None,
) -> Demonstrated:  # fmt: skip
    """Rows of at most `length` tokens, and of prompts of at most `prompt_length`.

    Args:
      whole: the loss counts the prompt's tokens too, not the answer's alone. (The paper does not
        say; the answer alone is the common practice.)

    Raises:
      DataError: no demonstration fits, or no prompt does.
    """
    good = [item for item in items if item.good]
    if items and not good:
        raise DataError(f'none of {len(items)} demonstrations is good: all have "label": false')
    kept = [item for item in good if item.answer.strip()]
    prompts = tokenizer.encode_prompts([item.prompt for item in kept])
    answers = tokenizer.encode_batch([item.answer for item in kept])
    asked = [
        (prompt, answer + [tokenizer.end], item.where)
        for prompt, answer, item in zip(prompts, answers, kept, strict=True)
        if prompt_length is None or len(prompt) <= prompt_length
    ]
    if kept and not asked:
        raise DataError(
            f"none of {len(items)} demonstrations has a prompt of at most {prompt_length} tokens: "
            "set a larger prompt_length"
        )
    fitting = [one for one in asked if one[0] and len(one[0]) + len(one[1]) <= length]
    texts = [(prompt, answer) for prompt, answer, _ in fitting]
    if not texts:
        raise DataError(
            f"none of {len(items)} demonstrations fits into {length} tokens: set a larger length"
        )
    longest = max(len(prompt) + len(answer) for prompt, answer in texts)
    width = min(length, -(-longest // MULTIPLE) * MULTIPLE)
    whole_text = np.full((len(texts), width + 1), tokenizer.pad or 0, np.int32)
    mask = np.zeros((len(texts), width), bool)
    for row, (prompt, answer) in enumerate(texts):
        size = len(prompt) + len(answer)
        whole_text[row, :size] = prompt + answer
        mask[row, (0 if whole else len(prompt) - 1) : size - 1] = True
    rows = TokenBatch(
        tokens=whole_text[:, :-1],
        targets=whole_text[:, 1:],
        mask=mask,
        rows=np.arange(len(texts), dtype=np.uint32),
    )
    names = tuple(where for _, _, where in fitting)
    return Demonstrated(
        rows, names, long=len(asked) - len(texts), empty=len(good) - len(kept),
        bad=len(items) - len(good), asked=len(kept) - len(asked),
    )  # fmt: skip
