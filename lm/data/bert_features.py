"""BERT's input for each kind of task (Devlin et al. 2018, section 4; run_classifier.py).

    a text              [CLS] text [SEP]
    a pair              [CLS] text [SEP] pair [SEP]              the second in segment 1
    a choice            [CLS] context question [SEP] answer [SEP]      for each answer
    a span              [CLS] question [SEP] passage [SEP]      for each window of the passage
    tagged words        [CLS] words [SEP]                       for each window of them

The head of the first three reads [CLS], that of the others every token.
"""

from collections.abc import Sequence

from lm.data.bert_layout import BertFeatures, delimiters
from lm.data.bert_spans import encode_spans
from lm.data.bert_tags import encode_tags
from lm.data.features import Candidate, Counts, Encoded, pack, padded
from lm.data.records import Record, Span, Tagging
from lm.data.sides import (
    Sided,
    Sides,
    keep_question,
    labels,
    longest_first,
    require_one_kind,
    sides,
)
from lm.text.interface import Tokenizer


def encode(records: Sequence[Record], tokenizer: Tokenizer, config: BertFeatures) -> Encoded:
    """All items of a set, of whichever kind they are.

    Raises:
      ConfigError: the tokenizer has no [CLS] and [SEP], or the length has no room.
      DataError: no items, items of several kinds, a label that is none, and what `encode_spans`
        and `encode_tags` raise.
    """
    require_one_kind(records)
    if tagged := [record for record in records if isinstance(record, Tagging)]:
        return encode_tags(tagged, tokenizer, config)
    if asked := [record for record in records if isinstance(record, Span)]:
        return encode_spans(asked, tokenizer, config)
    sided = [record for record in records if isinstance(record, Sided)]
    return encode_sides(sided, tokenizer, config)


def encode_sides(records: Sequence[Sided], tokenizer: Tokenizer, config: BertFeatures) -> Encoded:
    """Texts, pairs and choices, a pair cut "longest first". What goes of a choice's first side is
    the end of the context, before anything of the question."""
    cls, sep = delimiters(tokenizer)
    label = labels(records)
    rows, truncated, cut, empty = [], 0, 0, 0
    for item in sides(records, tokenizer):
        row = [_candidate(item, second, cls, sep, config.length) for second in item.seconds]
        full = len(item.context) + len(item.question) + 2
        lost = sum(
            full + (0 if second is None else len(second) + 1) - len(candidate.ids)
            for second, candidate in zip(item.seconds, row, strict=True)
        )
        truncated, cut, empty = truncated + (lost > 0), cut + lost, empty + item.empty
        rows.append(row)
    width = padded(max(len(c.ids) for row in rows for c in row), config.length)
    return Encoded(
        rows=pack(rows, label, range(len(rows)), width=width, pad=tokenizer.pad),
        counts=Counts(items=len(rows), rows=len(rows), truncated=truncated, cut=cut, empty=empty),
    )


def _candidate(item: Sides, second: list[int] | None, cls: int, sep: int, length: int) -> Candidate:
    full = len(item.context) + len(item.question)
    if second is None:
        ids = [cls, *keep_question(item.context, item.question, length - 2), sep]
        return Candidate(ids, len(ids), 0)
    first, other = longest_first(full, len(second), length - 3)
    body = [cls, *keep_question(item.context, item.question, first), sep]
    return Candidate([*body, *second[:other], sep], len(body), 0)
