"""What one item of a task is, before any tokenizer has seen it: five kinds cover them all.

Labels are indices into the task's label names; None where the set has no labels.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification:
    """A text or a pair of texts of one of several classes (SST-2, CoLA, MRPC, MNLI, ...)."""

    id: str
    text: str
    pair: str | None = None
    label: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression:
    """A text or a pair with a number (STS-B: similarity from 0 to 5)."""

    id: str
    text: str
    pair: str | None = None
    label: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """A context, perhaps a question, and answers of which one is right (SWAG, Story Cloze)."""

    id: str
    context: str
    question: str = ""
    choices: tuple[str, ...]
    label: int | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """A span of a passage: its text, and the character at which it begins."""

    text: str
    start: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """A question about a passage that a span of it answers (SQuAD)."""

    id: str
    question: str
    passage: str
    answers: tuple[Answer, ...] | None = None  # () where the question has no answer (SQuAD 2.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagging:
    """Words, each with a tag (CoNLL-2003)."""

    id: str
    words: tuple[str, ...]
    label: tuple[int, ...] | None = None  # one a word
    document: str | None = None  # of which it is a sentence, where the file says so


Record = Classification | Regression | Choice | Span | Tagging
