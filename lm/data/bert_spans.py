"""BERT's input for extractive questions: each window of the passage is a row.

(Devlin et al. 2018, sections 4.2 and 4.3; run_squad.py.) Nothing is cut but a long question.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lm.core.config import require
from lm.core.errors import DataError
from lm.data.bert_layout import BertFeatures, delimiters
from lm.data.features import Candidate, Counts, Encoded, pack, padded
from lm.data.passages import Passage, PassageRows, encode_words, owners, passages, windows
from lm.data.records import Span
from lm.data.sides import NONE
from lm.text.interface import Tokenizer


class _Row(NamedTuple):
    ids: list[int]
    label: tuple[int, int]
    item: int
    begin: int  # where the passage's tokens begin
    first: int  # which of them stands there
    size: int  # how many there are
    best: np.ndarray  # [size] bool


def encode_spans(records: Sequence[Span], tokenizer: Tokenizer, config: BertFeatures) -> Encoded:
    """Questions about passages; the label is the first and the last token of the first answer.

    It is [CLS] twice where the row does not hold the whole answer, or there is none, and -1 twice
    where the set has no answers.

    Raises:
      ConfigError: a row has no room for a passage.
      DataError: an answer that is not where it is said to be, a passage without a token.
    """
    cls, sep = delimiters(tokenizer)
    require(
        config.length > config.question + 3,
        f"length {config.length} has no room for a passage beside a question of "
        f"{config.question}: set a smaller question, or a greater length",
    )
    texts = list(dict.fromkeys(record.passage for record in records))
    known = dict(zip(texts, passages(tokenizer, texts), strict=True))
    questions = tokenizer.encode_batch([record.question for record in records])
    answers = _answer_forms(records, tokenizer)
    rows: list[_Row] = []
    lost = 0
    for item, record in enumerate(records):
        passage = known[record.passage]
        if not passage.tokens:
            raise DataError(f"item {record.id}: its passage gives no token; drop the item")
        question = [cls, *questions[item][: config.question], sep]
        answer = _locate(record, passage, answers[item]) if record.answers else None
        absent = NONE if record.answers is None else 0
        some = _windows(question, passage, answer, absent, config, sep)
        rows += [row._replace(item=item) for row in some]
        lost += bool(record.answers) and not any(row.label[0] > 0 for row in some)
    width = padded(max(len(row.ids) for row in rows), config.length)
    best = np.zeros((len(rows), width), bool)
    for here, row in zip(best, rows, strict=True):
        here[row.begin : row.begin + row.size] = row.best
    over = [len(question) - config.question for question in questions]
    return Encoded(
        rows=pack(
            [[Candidate(row.ids, row.begin, 0)] for row in rows],
            np.array([row.label for row in rows], np.int32),
            [row.item for row in rows],
            width=width,
            pad=tokenizer.pad,
        ),
        counts=Counts(
            items=len(records),
            rows=len(rows),
            truncated=sum(more > 0 for more in over),
            cut=sum(more for more in over if more > 0),
            empty=sum(not question for question in questions),
            lost=lost,
        ),
        passages=PassageRows(
            ids=tuple(record.id for record in records),
            passages=tuple(known[record.passage] for record in records),
            begin=np.array([row.begin for row in rows]),
            first=np.array([row.first for row in rows]),
            size=np.array([row.size for row in rows]),
            best=best,
        ),
    )


def _windows(
    question: list[int],
    passage: Passage,
    answer: tuple[int, int] | None,
    absent: int,
    config: BertFeatures,
    sep: int,
) -> list[_Row]:
    """A row for each window of the passage; `absent` is the label of one without the answer."""
    total, begin, rows = len(passage.tokens), len(question), []
    seen = windows(total, config.length - begin - 1, config.stride)
    owner = owners(seen, total)
    for number, (first, size) in enumerate(seen):
        label = (absent, absent)
        if answer is not None and first <= answer[0] and answer[1] < first + size:
            label = (answer[0] - first + begin, answer[1] - first + begin)
        ids = [*question, *passage.tokens[first : first + size], sep]
        best = owner[first : first + size] == number
        rows.append(_Row(ids, label, 0, begin, first, size, best))
    return rows


def _answer_forms(records: Sequence[Span], tokenizer: Tokenizer) -> list[list[list[int]]]:
    """The tokens of each item's first answer, as a text begins and as it goes on."""
    texts = [record.answers[0].text.split() if record.answers else [] for record in records]
    alone = encode_words(tokenizer, texts)
    after = encode_words(tokenizer, [["", *text] for text in texts])
    flat = itertools.chain.from_iterable
    return [
        [list(flat(one)), list(flat(other[1:]))] for one, other in zip(alone, after, strict=True)
    ]


def _locate(record: Span, passage: Passage, forms: list[list[int]]) -> tuple[int, int] | None:
    """First and last token of the first answer; None where its words have no token.

    The answer's own tokens where they are found among those of its words ("1895" in
    "(1895-1943)."), otherwise those of the whole words (run_squad.py, _improve_answer_span).
    """
    assert record.answers
    text, start = record.answers[0].text, record.answers[0].start
    there = record.passage[max(0, start) : max(0, start) + len(text)]
    words = passage.words(start, start + len(text))
    if start < 0 or there != text or words is None:
        raise DataError(
            f"item {record.id}: the answer {text!r} is not at character {start} of its passage, "
            f"where {there!r} stands: correct the start, or drop the item"
        )
    first, end = passage.span(*words)
    for begin, form in itertools.product(range(first, end), forms):
        if form and begin + len(form) <= end and passage.tokens[begin : begin + len(form)] == form:
            return begin, begin + len(form) - 1
    return (first, end - 1) if first < end else None
