"""What a task is before a file is opened, and how one of its rows becomes a record."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from lm.data.records import Answer, Choice, Classification, Record, Regression, Span, Tagging
from lm.text.interface import unpaired

Kind = Literal["classification", "regression", "choice", "span", "tagging"]
Values = Mapping[str, Any]

# The fields of each kind's records, and the columns they are found under: the first that is there.
COLUMNS: dict[Kind, dict[str, tuple[str, ...]]] = {
    "classification": {"text": ("text",), "pair": ("pair",), "label": ("label",)},
    "regression": {"text": ("text",), "pair": ("pair",), "label": ("label",)},
    "choice": {
        "context": ("context",),
        "question": ("question",),
        "choices": ("choices",),
        "label": ("label",),
        "document": ("document",),
    },
    "span": {
        "question": ("question",),
        "passage": ("context", "passage"),
        "answers": ("answers",),
        "title": ("title",),
    },
    "tagging": {"words": ("words", "tokens"), "tags": ("tags",), "document": ("document",)},
}
NO_LABEL = (None, "")  # as published test sets write it
HUB_NO_LABEL = "-1"  # as Hugging Face's do, of classes; where no label is called so


class Malformed(Exception):
    """A row is no record of its task. The text says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """A task: its kind, labels and metrics, where its files are and what their columns are called.

    Names of files are without `.gz`, and may be patterns; columns are the names a field goes by:
    the first that is there.
    """

    kind: Kind
    metrics: tuple[str, ...]  # of lm.metrics; the first is the one to compare by
    labels: tuple[str, ...] = ()  # in the order of their indices; (): those of the training rows
    symmetric: bool = False  # the two texts of a pair may change places (similarity)
    folders: tuple[str, ...] = ()  # where the files may lie, below the root
    train: tuple[str, ...] = ("train.jsonl", "train.tsv")
    valid: tuple[str, ...] = ("valid.jsonl", "dev.jsonl", "valid.tsv", "dev.tsv")
    test: tuple[str, ...] = ("test.jsonl", "test.tsv")
    columns: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    places: tuple[int, int] = (0, -1)  # the columns of words and tags in a CoNLL file
    header: tuple[str, ...] = ()  # columns of a TSV that does not name them
    left_out: tuple[str, ...] = ()  # labels that are none: publications do without these rows
    bounds: tuple[float, float] = (-math.inf, math.inf)  # of a regression's label
    restate: Callable[[Values], Values] | None = None  # a published layout in the columns above
    referents: bool = False  # the choices of a sentence differ in what its pronoun stands for
    no_answer: bool = False  # a question may have none (SQuAD 2.0)

    @property
    def learned_labels(self) -> bool:
        """The labels are those of the training rows: none is known before they are read."""
        return not self.labels and self.kind in ("classification", "tagging")

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """The columns that each field is looked for under."""
        return {"id": ("id",), **COLUMNS[self.kind], **self.columns}

    def fields(self, values: Values) -> dict[str, Any]:
        """The values of a row by the names of the record's fields. Absent ones are left out.

        Raises:
          Malformed: the row is laid out neither as those of this task nor as one's own data.
        """
        try:
            return self.named(self.restate(values) if self.restate else values)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            own = self.named(values)
            if self.kind == "choice" and {"context", "choices"} <= own.keys():
                return own
            raise Malformed(f"not a row of this task ({error!r})") from None

    def named(self, values: Values) -> dict[str, Any]:
        """`fields` of a row that has the columns of this form."""
        found = {}
        for field, columns in self.names.items():
            column = next((name for name in columns if values.get(name) is not None), None)
            if column is not None:
                found[field] = values[column]
        if "is_impossible" in values:
            found["is_impossible"] = values["is_impossible"]
        return found


@dataclasses.dataclass(frozen=True)
class Item:
    """A record, and what it must not be parted from when some are held out: its text."""

    record: Record
    group: str


def item(form: Form, labels: tuple[str, ...], name: str, values: Values, labelled: bool) -> Item:
    """The record of a row. `labelled`: a row without a label is malformed.

    Raises:
      Malformed: a field is missing, empty or of the wrong type, or contradicts another.
    """
    fields = form.fields(values)
    identity = fields.get("id", name)
    if isinstance(identity, bool) or not isinstance(identity, (str, int)):
        raise Malformed(f'"id" is {identity!r}, expected text or a number')
    return BUILDERS[form.kind](form, labels, str(identity), fields, labelled)


def text_of(form: Form, fields: Values, field: str) -> str:
    if field not in fields:
        raise Malformed(f'missing "{field}" (columns looked for: {", ".join(form.names[field])})')
    return _text(fields[field], f'"{field}"')


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Malformed(f"{name} is {value!r:.40}, expected text")
    if not value.strip():
        raise Malformed(f"{name} is empty")
    if unpaired(value):
        raise Malformed(f"{name} is not Unicode text")
    return value


def label_name(value: Any) -> str:
    """A label as text: `1` and `true` as JSON writes them.

    Raises:
      Malformed: a number that is not finite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise Malformed(f"a label is {value}, expected text or a finite number")
    return value if isinstance(value, str) else json.dumps(value)


def label_of(fields: Values, labels: tuple[str, ...], labelled: bool) -> int | None:
    """The index of a label that is given by its name, or by its index."""
    value = fields.get("label")
    if value in NO_LABEL:
        if labelled:
            raise Malformed('missing "label"')
        return None
    name = label_name(value)
    if name == HUB_NO_LABEL and name not in labels:
        if labelled:
            raise Malformed(
                f'"label" is {name}, which is none; if it is a class, name all classes, as '
                """--set 'data.labels=("-1","0","1")' does"""
            )
        return None
    return index_of(name, labels)


NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def index_of(name: str, labels: tuple[str, ...]) -> int:
    """The index of a label, or that which its name spells where no label is a number itself.

    Raises:
      Malformed: the label is not known.
    """
    if name in labels:
        return labels.index(name)
    numbers = any(NUMBER.fullmatch(label) for label in labels)
    if not numbers and name.isascii() and name.isdigit() and int(name) < len(labels):
        return int(name)
    raise Malformed(f"unknown label {name!r:.60}; known: {', '.join(labels)}")


def classification(
    form: Form, labels: tuple[str, ...], name: str, fields: Values, labelled: bool
) -> Item:
    text, pair = texts(form, fields)
    label = label_of(fields, labels, labelled)
    return Item(Classification(id=name, text=text, pair=pair, label=label), text)


def texts(form: Form, fields: Values) -> tuple[str, str | None]:
    paired = "pair" in fields or "pair" in form.columns
    pair = text_of(form, fields, "pair") if paired else None
    return text_of(form, fields, "text"), pair


def regression(
    form: Form, labels: tuple[str, ...], name: str, fields: Values, labelled: bool
) -> Item:
    text, pair = texts(form, fields)
    value, label = fields.get("label"), None
    if value not in NO_LABEL:
        label = number(value)
        low, high = form.bounds
        if not low <= label <= high:
            raise Malformed(f'"label" is {label}, expected {low} to {high}')
    elif labelled:
        raise Malformed('missing "label"')
    return Item(Regression(id=name, text=text, pair=pair, label=label), text)


def number(value: Any) -> float:
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise Malformed(f'"label" is {value!r:.40}, expected a finite number')
    return found


def choice(form: Form, labels: tuple[str, ...], name: str, fields: Values, labelled: bool) -> Item:
    context, choices = text_of(form, fields, "context"), fields.get("choices")
    if not isinstance(choices, (list, tuple)) or len(choices) < 2:
        raise Malformed(f'"choices" is {choices!r:.40}, expected a list of two or more')
    answers = tuple(_text(text, f"choice {k}") for k, text in enumerate(choices))
    question = fields.get("question", "")
    if question:
        question = _text(question, '"question"')
    label = label_of(fields, tuple(map(str, range(len(answers)))), labelled)
    record = Choice(id=name, context=context, question=question, choices=answers, label=label)
    return Item(record, str(fields.get("document") or f"{context}\n{question}"))


def span(form: Form, labels: tuple[str, ...], name: str, fields: Values, labelled: bool) -> Item:
    question, passage = text_of(form, fields, "question"), text_of(form, fields, "passage")
    answers = _answers(form, fields, passage, labelled)
    record = Span(id=name, question=question, passage=passage, answers=answers)
    return Item(record, str(fields.get("title") or passage))


def _answers(form: Form, fields: Values, passage: str, labelled: bool) -> tuple[Answer, ...] | None:
    """Those of SQuAD's JSON, a list of objects, or of its rows, an object of lists."""
    given = fields.get("answers")
    if given is None:
        if labelled and not fields.get("is_impossible"):
            raise Malformed('missing "answers"')
        return () if fields.get("is_impossible") else None
    try:
        if isinstance(given, Mapping):
            pairs = list(zip(given["text"], given["answer_start"], strict=True))
        else:
            pairs = [(answer["text"], answer["answer_start"]) for answer in given]
    except (KeyError, TypeError, ValueError):
        raise Malformed('"answers" has no list of "text" and "answer_start"') from None
    if fields.get("is_impossible") and pairs:
        raise Malformed("is_impossible, and yet there are answers")
    if not pairs and not form.no_answer:
        raise Malformed("no answer, which only SQuAD 2.0 has (data.name=squad2)")
    if not pairs and fields.get("is_impossible") is False:
        raise Malformed("no answer, and yet is_impossible is false")
    for text, start in pairs:
        _text(text, "an answer")
        if isinstance(start, bool) or not isinstance(start, int):
            raise Malformed(f"answer_start is {start!r:.40}, expected a number of characters")
        if start < 0 or start + len(text) > len(passage):
            end = start + len(text)
            raise Malformed(
                f"answer {start}:{end} outside the passage of {len(passage)} characters"
            )
        if not passage.startswith(text, start):
            there = passage[start : start + len(text)]
            raise Malformed(f"answer {text!r:.60} at {start}, where the passage has {there!r:.60}")
    return tuple(Answer(text, start) for text, start in pairs)


def tagging(form: Form, labels: tuple[str, ...], name: str, fields: Values, labelled: bool) -> Item:
    words, tags = fields.get("words"), fields.get("tags")
    if not isinstance(words, (list, tuple)) or not words:
        raise Malformed(f'"words" is {words!r:.40}, expected a list of words')
    words = tuple(_text(word, f"word {k}") for k, word in enumerate(words))
    if tags is None and labelled:
        raise Malformed('missing "tags"')
    if tags is not None and not isinstance(tags, (list, tuple)):
        raise Malformed(f'"tags" is {tags!r:.40}, expected a list of tags')
    if tags is not None and len(tags) != len(words):
        raise Malformed(f"{len(tags)} tags for {len(words)} words")
    label = None if tags is None else tuple(index_of(label_name(tag), labels) for tag in tags)
    document = str(fields["document"]) if fields.get("document") else None
    record = Tagging(id=name, words=words, label=label, document=document)
    return Item(record, document or "\n".join(words))


BUILDERS = {
    "classification": classification,
    "regression": regression,
    "choice": choice,
    "span": span,
    "tagging": tagging,
}
