"""A question behind examples of its kind: the one form that all in-context tasks are written in.

A prompt is a description, if any, then K examples and the question, with one or two newlines
between. The examples are drawn afresh for every item (Brown et al. 2020, section 2.4) and depend on
nothing but a seed and the item's number. What does not fit the model's context loses whole
examples from the left; an item that does not fit without any is refused.
"""

import bisect
import dataclasses
from collections.abc import Sequence

import numpy as np

from lm.core.config import require
from lm.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A question, as it stands in a text.

    One context with several completions is multiple choice, or a free question with the answers
    that count as right, the first of them to be shown. Several contexts with one completion are
    for partial evaluation (Trinh & Le 2018). A completion begins with the blank before it.
    """

    id: str = ""
    contexts: tuple[str, ...]
    completions: tuple[str, ...]
    gold: int = 0  # the right one among those of which there are several
    answers: tuple[tuple[str, ...], ...] = ()  # what is right where words alone do not say it
    # Items of one, such as questions on a passage, vary together and are no examples of each other.
    group: str = ""

    def __post_init__(self) -> None:
        several = max(len(self.contexts), len(self.completions))
        if min(len(self.contexts), len(self.completions)) != 1:
            raise ValueError(
                f"{len(self.contexts)} contexts and {len(self.completions)} completions: one of "
                "the two must be 1"
            )
        if not 0 <= self.gold < several:
            raise ValueError(f"the right answer has number {self.gold}, there are {several}")
        if not all(text.strip() for text in self.completions):
            raise ValueError("an answer is empty")

    @property
    def partial(self) -> bool:
        return len(self.contexts) > 1

    @property
    def example(self) -> str:
        """The question with its right answer, as it is shown in a prompt."""
        context = self.contexts[self.gold if self.partial else 0]
        return context + self.completions[0 if self.partial else self.gold]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """What stands around the examples of a task."""

    between: str = "\n\n"
    description: str = ""  # says what is to be done, before the examples

    def __post_init__(self) -> None:
        require(
            self.between in ("\n", "\n\n"),
            f"between {self.between!r} must be one newline or two (Brown et al. 2020, section 2.4)",
        )

    def prefix(self, examples: Sequence[Item]) -> str:
        """All that stands before a question."""
        parts = [self.description] if self.description else []
        return "".join(part + self.between for part in [*parts, *(e.example for e in examples)])


@dataclasses.dataclass(frozen=True)
class Prompt:
    """An item behind the examples that fit."""

    item: Item
    prefix: str
    shots: int  # examples in it
    dropped: int = 0  # examples that did not fit
    number: int = 0  # of the item in its set, by which is drawn what is

    @property
    def contexts(self) -> tuple[str, ...]:
        return tuple(self.prefix + context for context in self.item.contexts)


def drawn(count: int, pool: int, *, seed: int, number: int, itself: bool) -> list[int]:
    """Which examples an item is shown: a pure function of the arguments, and no order but chance.

    Args:
      count: how many; all of the pool where it has fewer.
      pool: how many there are to draw from.
      number: of the item.
      itself: the pool is the items themselves, and the item's own place is left out.

    Returns:
      Places in the pool, each at most once.
    """
    others = pool - itself
    random = np.random.default_rng([seed, number])
    some = random.choice(others, size=min(count, others), replace=False, shuffle=True)
    return [place + (itself and place >= number) for place in some.tolist()]


def fit(
    item: Item, examples: Sequence[Item], style: Style, tokenizer: Tokenizer, *, length: int,
    answer: int | None = None,
) -> Prompt | None:  # fmt: skip
    """The item behind as many of the examples as fit, the first left out; None: refused, since
    it does not fit without any.

    Args:
      length: tokens of the model's context.
      answer: tokens that the model is to write; None where it scores the item's completions.
    """
    if answer is None:
        # the last token is never read
        answer = max(map(len, tokenizer.encode_batch(list(item.completions)))) - 1

    def too_long(dropped: int) -> bool:
        prefix = style.prefix(examples[dropped:])
        rows = tokenizer.encode_batch([prefix + context for context in item.contexts])
        return max(map(len, rows)) + answer > length

    if not too_long(0):
        return Prompt(item, style.prefix(examples), len(examples))
    # the least number to leave out, for which it is not too long
    dropped = bisect.bisect_left(range(len(examples) + 1), True, key=lambda n: not too_long(n))
    if dropped > len(examples):
        return None
    return Prompt(item, style.prefix(examples[dropped:]), len(examples) - dropped, dropped)
